// Asks before a form with unsaved changes is left. Saving does not ask.
for (const form of document.querySelectorAll("form[data-ask-before-leaving]")) {
  let isSaving = false;
  const contents = () => new URLSearchParams(new FormData(form)).toString();
  const opened = contents();
  const isChanged = () => "isChanged" in form.dataset || contents() !== opened;

  form.addEventListener("submit", () => (isSaving = true));
  window.addEventListener("pageshow", () => (isSaving = false));
  window.addEventListener("beforeunload", (event) => {
    if (!isSaving && isChanged()) event.preventDefault();
  });
}
