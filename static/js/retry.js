import { ensure, showReference } from "./ensure.js";
import { toast } from "./toast.js";

const LIMIT_MS = 10_000;

/** «Tentar novamente»: ensures the profile first, and loads the page only after a success. */
async function retry(form) {
  const button = form.querySelector("button");
  button.disabled = true;
  toast("Preparando seu perfil…");
  const answer = await ensure(form.dataset.ensure, LIMIT_MS);
  if (answer.isSettled) return location.assign(form.action);
  showReference(answer.reference);
  toast("Ainda não deu certo. Tente de novo daqui a pouco.");
  button.disabled = false;
  button.focus();
}

for (const form of document.querySelectorAll("[data-ensure]")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    retry(form);
  });
}
