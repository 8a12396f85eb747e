// A form is sent once: its buttons rest while the answer is on its way. The key in the form sees to
// the same where this does not run.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented) return;
  if (form.ariaBusy === "true") return event.preventDefault();
  form.ariaBusy = "true";
  // Later, because a button that is disabled now would not be sent.
  setTimeout(() => {
    for (const button of form.querySelectorAll("button")) button.disabled = true;
  });
});

// A page that comes back from the browser's memory can be sent again.
window.addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  for (const form of document.querySelectorAll("form[aria-busy]")) {
    form.ariaBusy = null;
    for (const button of form.querySelectorAll("button")) button.disabled = false;
  }
});
