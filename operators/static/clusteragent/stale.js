// A page that fetches parts of itself says when it can't, over everything else, and stops when its user is logged out.
"use strict";

const OUT_OF_DATE = "Out of date - ";

function isOver(xhr) {
    const banner = document.querySelector("#page-over a");
    // A browser follows the redirect to the login by itself.
    return xhr.status === 401 || (xhr.responseURL && new URL(xhr.responseURL).pathname === banner.pathname);
}

function showBanner(isSessionOver, isStale) {
    document.getElementById("page-over").hidden = !isSessionOver;
    document.getElementById("page-stale").hidden = isSessionOver || !isStale;
    const title = document.title.replace(OUT_OF_DATE, "");
    document.title = isSessionOver || isStale ? OUT_OF_DATE + title : title;
}

document.addEventListener("htmx:beforeSwap", ({ detail }) => {
    if (isOver(detail.xhr)) {
        detail.shouldSwap = false;
    }
});

document.addEventListener("htmx:afterRequest", ({ detail }) => {
    const isSessionOver = isOver(detail.xhr);
    showBanner(isSessionOver, !detail.successful);
    if (isSessionOver) {
        for (const polling of document.querySelectorAll("[hx-trigger^=every]")) {
            // What htmx does not know, it does not poll.
            const still = polling.cloneNode(true);
            still.removeAttribute("hx-get");
            still.removeAttribute("hx-trigger");
            polling.replaceWith(still);
        }
    }
});
