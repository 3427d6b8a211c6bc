// Keys that lead somewhere: / searches, ? lists them, g and a letter open a page. They do nothing while somebody writes.
"use strict";

// Milliseconds that g waits for its letter.
const CHORD = 1500;
// What icons are called where they stand alone; others are called by their ligature.
const NAMES = { hub: "First page", search: "Search" };
let chordEnds = 0;

function isWriting(element) {
    return element.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(element.tagName);
}

function hideIcons() {
    // Their ligatures are words, which a screen reader would read aloud.
    for (const icon of document.querySelectorAll(".material-symbols-outlined:not([aria-hidden])")) {
        const owner = icon.closest("a, button");
        icon.setAttribute("aria-hidden", "true");
        // What has nothing but icons needs a name.
        if (owner && !owner.title && !owner.ariaLabel && !owner.querySelector(":scope > :not(.material-symbols-outlined)")) {
            const name = [...owner.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
            owner.ariaLabel = name ? null : NAMES[icon.textContent.trim()] || icon.textContent.trim().replaceAll("_", " ");
        }
    }
    // Django's, of lists that can be searched.
    for (const hint of document.querySelectorAll(".help-tooltip[aria-label]:not([role])")) {
        hint.setAttribute("role", "img");
    }
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
    } else if (event.key === "/" && !dialog.open) {
        const box = document.querySelector("form[role=search] input");
        if (box) {
            event.preventDefault();
            box.focus();
        }
    }
});

document.addEventListener("DOMContentLoaded", () => {
    hideIcons();
    new MutationObserver(hideIcons).observe(document.body, { childList: true, subtree: true });
});
