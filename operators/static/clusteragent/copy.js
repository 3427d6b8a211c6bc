// Buttons that copy the text beside them. Without scripts they are hidden, and the text can be selected.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
    for (const button of document.querySelectorAll("button[data-copy]")) {
        button.hidden = !navigator.clipboard;
    }
});

document.addEventListener("click", async ({ target }) => {
    const button = target.closest("button[data-copy]");
    if (!button) {
        return;
    }
    try {
        await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
        button.textContent = "Copied";
    } catch {
        button.textContent = "Not allowed: select it";
    }
});
