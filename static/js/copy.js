// Copies the text of a field to the clipboard. Without JavaScript the text can be selected.
import { toast } from "./toast.js";

const button = document.querySelector("[data-copy]");
const source = document.querySelector("[data-copy-source]");

button.hidden = false;
button.addEventListener("click", async () => {
  source.select();
  try {
    await navigator.clipboard.writeText(source.value);
    toast("E-mails copiados.");
  } catch {
    toast("Selecionado: copie com Ctrl+C.");
  }
});
