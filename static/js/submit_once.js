// Prevents double submits: the button says that the form is being sent, and cannot be used until
// the response comes. Without JavaScript the form's idempotency key has the same effect.
import { endBusy, isBusy, showBusy } from "./busy.js";

let sent = null;

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method !== "post") return;
  // A download changes nothing and leaves the page open.
  if (event.submitter?.hasAttribute("data-repeatable")) return;
  if (sent === form) return event.preventDefault();
  sent = form;
  const button = event.submitter ?? form.querySelector("button");
  showBusy(form, button);
  // Deferred, because a disabled button would not be part of the submitted form.
  setTimeout(() => {
    if (button && isBusy(form)) button.disabled = true;
  });
});

// A page restored from the back/forward cache can be submitted again.
window.addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  sent = null;
  endBusy();
});
