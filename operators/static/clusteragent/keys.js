// Keys that lead somewhere: / searches, r loads the page anew, ? lists them, g and a letter open a page; j and k go from row to
// row; in a list x selects, a goes to the actions. They do nothing while somebody writes.
"use strict";

// Milliseconds that g waits for its letter.
const CHORD = 1500;
const TEXTLESS = ["button", "checkbox", "radio", "submit"];
let chordEnds = 0;

function isWriting(element) {
    return element.isContentEditable || ["TEXTAREA", "SELECT"].includes(element.tagName)
        || (element.tagName === "INPUT" && !TEXTLESS.includes(element.type));
}

// The rows of a list, what needs somebody, what happened.
const ROWS = ".data-row, .pages-need, .pages-story";

// To what a row is about: of what needs somebody that is *Show*, not what to do. Before the first row is none.
function step(by) {
    const rows = [...document.querySelectorAll(ROWS)];
    const row = rows[Math.max(0, rows.indexOf(document.activeElement.closest(ROWS)) + by)];
    (row?.querySelector("th a[href], summary, a[id^=show-]") ?? row?.querySelector("a[href], input"))?.focus();
    return Boolean(row);
}

function press(selector, within = document) {
    const found = within?.querySelector(selector);
    found?.click();
    return Boolean(found);
}

function goTo(selector) {
    const found = document.querySelector(selector);
    found?.focus();
    return Boolean(found?.checkVisibility());
}

const ACTS = {
    "?": () => document.getElementById("keys").showModal() ?? true,
    "/": () => goTo("form[role=search] input"),
    r: () => press("#page-refresh"),
    j: () => step(1),
    k: () => step(-1),
    x: () => press("input.action-select", document.activeElement.closest(".data-row")),
    "*": () => press("#action-toggle"),
    a: () => goTo("#changelist-actions select"),
};

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
    } else if (!document.querySelector("dialog[open]") && Object.hasOwn(ACTS, event.key) && ACTS[event.key]()) {
        event.preventDefault();
    }
});
