// The first page says when it could not be read anew, and stops reading itself when nobody is logged in any more.
"use strict";

document.addEventListener("htmx:afterRequest", ({ target, detail }) => {
    if (target.id !== "now") {
        return;
    }
    const isOver = detail.xhr.status === 401;
    document.getElementById("now-over").hidden = !isOver;
    document.getElementById("now-stale").hidden = isOver || detail.successful;
    if (isOver) {
        // What htmx does not know, it does not poll.
        const still = target.cloneNode(true);
        still.removeAttribute("hx-get");
        still.removeAttribute("hx-trigger");
        target.replaceWith(still);
    }
});
