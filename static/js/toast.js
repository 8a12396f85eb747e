/** Shows a message, which screen readers announce. */
export function toast(message) {
  const note = document.createElement("p");
  note.className = "toast-note";
  note.textContent = message;
  document.querySelector("[data-toasts]").replaceChildren(note);
}

/** Removes the last message. */
export function clearToasts() {
  document.querySelector("[data-toasts]").replaceChildren();
}
