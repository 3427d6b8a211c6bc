// Keys that lead somewhere: / searches, r loads the page anew, ? lists them, g and a letter open a page. They do nothing while somebody writes.
"use strict";

// Milliseconds that g waits for its letter.
const CHORD = 1500;
let chordEnds = 0;

function isWriting(element) {
    return element.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(element.tagName);
}

document.addEventListener("keydown", (event) => {
    const dialog = document.getElementById("keys");
    if (!dialog || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || isWriting(event.target)) {
        return;
    }
    const link = event.timeStamp < chordEnds && dialog.querySelector(`a[data-key="${CSS.escape(event.key)}"]`);
    chordEnds = 0;
    if (link) {
        event.preventDefault();
        location.assign(link.href);
    } else if (event.key === "g") {
        chordEnds = event.timeStamp + CHORD;
    } else if (event.key === "?" && !dialog.open) {
        event.preventDefault();
        dialog.showModal();
    } else if (event.key === "r" && !dialog.open) {
        event.preventDefault();
        document.getElementById("page-refresh").click();
    } else if (event.key === "/" && !dialog.open) {
        const box = document.querySelector("form[role=search] input");
        if (box) {
            event.preventDefault();
            box.focus();
        }
    }
});
