const BUSY = "aria-busy";

/** Whether the form is being sent. */
export function isBusy(form) {
  return form.hasAttribute(BUSY);
}

/** Marks the form as being sent: its button says so, in the words of `data-busy`. */
export function showBusy(form, button) {
  form.setAttribute(BUSY, "true");
  if (!button || "idleText" in button.dataset) return;
  button.dataset.idleText = button.textContent;
  button.textContent = form.dataset.busy ?? "Enviando…";
}

/** Undoes `showBusy` for all forms of the page. */
export function endBusy() {
  for (const form of document.querySelectorAll(`form[${BUSY}]`)) form.removeAttribute(BUSY);
  for (const button of document.querySelectorAll("button[data-idle-text]")) {
    button.textContent = button.dataset.idleText;
    delete button.dataset.idleText;
    button.disabled = false;
  }
}
