// The first page says when it could not be refreshed, and stops refreshing when its user is logged out.
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
