/** Shows a message for a while, and has screen readers say it. */
export function toast(message) {
  const note = document.createElement("p");
  note.className = "toast-note";
  note.textContent = message;
  document.querySelector("[data-toasts]").replaceChildren(note);
}

/** Takes the last message away, where the page itself now says more. */
export function clearToasts() {
  document.querySelector("[data-toasts]").replaceChildren();
}
