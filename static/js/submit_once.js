// A form is sent once: its buttons rest while the answer is on its way. Where this does not run, the
// key in the form sees to the same.
import { toast } from "./toast.js";

const BUSY = "aria-busy";

function rest(form, isBusy) {
  if (!isBusy) form.removeAttribute(BUSY);
  for (const button of form.querySelectorAll("button")) button.disabled = isBusy;
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method !== "post") return;
  if (form.hasAttribute(BUSY)) return event.preventDefault();
  form.setAttribute(BUSY, "true");
  // Later, because a button that is disabled now would not be sent.
  setTimeout(() => {
    rest(form, true);
    toast("Enviando…");
  });
});

// A page that comes back from the browser's memory can be sent again.
window.addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  for (const form of document.querySelectorAll(`form[${BUSY}]`)) rest(form, false);
});
