// Django's script draws the hints of a list that can be searched as elements that may have no name. As pictures they may.
"use strict";

window.addEventListener("load", () => {
    // After Django's own listener.
    setTimeout(() => {
        for (const hint of document.querySelectorAll(".help-tooltip[aria-label]")) {
            hint.setAttribute("role", "img");
        }
    });
});
