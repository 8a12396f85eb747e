// Prevents double submits: buttons are disabled until the response comes. Without JavaScript the
// form's idempotency key has the same effect.
import { toast } from "./toast.js";

const BUSY = "aria-busy";

function setBusy(form, isBusy) {
  if (!isBusy) form.removeAttribute(BUSY);
  for (const button of form.querySelectorAll("button")) button.disabled = isBusy;
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method !== "post") return;
  // A download changes nothing and leaves the page open.
  if (event.submitter?.hasAttribute("data-repeatable")) return;
  if (form.hasAttribute(BUSY)) return event.preventDefault();
  form.setAttribute(BUSY, "true");
  // Deferred, because a disabled button would not be part of the submitted form.
  setTimeout(() => {
    setBusy(form, true);
    toast("Enviando…");
  });
});

// A page restored from the back/forward cache can be submitted again.
window.addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  for (const form of document.querySelectorAll(`form[${BUSY}]`)) setBusy(form, false);
});
