// A page whose session is over, or whose server does not answer, says so over everything else, and sends no form until that ends.
"use strict";

{
    // Milliseconds between two looks: usually, while something is wrong, while nobody sees the page.
    const USUALLY = 10_000;
    const WHILE_WRONG = 3_000;
    const WHILE_HIDDEN = 120_000;
    // Milliseconds that an answer may take; after which a call that broke is tried again.
    const PATIENCE = 8_000;
    const AGAIN = 1_000;
    const OUT_OF_DATE = "Out of date - ";
    const STANDS = "stands";
    const OVER = "page-over";
    const AWAY = "page-stale";
    // What the last look found, the token that forms need now, and whether a part of the page can't be fetched although all is well.
    let found = STANDS;
    let token = "";
    let isPartStale = false;
    let looking = null;
    let next = 0;
    // Whether a form waits for a look, so that it must stay where it is; and the form that may be sent since.
    let isWaiting = false;
    let passing = null;

    const banner = (id) => document.getElementById(id);

    function show() {
        const shown = found === STANDS && isPartStale ? AWAY : found;
        for (const id of [OVER, AWAY]) {
            banner(id).hidden = id !== shown;
        }
        const title = document.title.replace(OUT_OF_DATE, "");
        document.title = shown === STANDS ? title : OUT_OF_DATE + title;
    }

    // A login makes another token than the one that the page came with.
    function renew() {
        for (const field of document.querySelectorAll("input[name=csrfmiddlewaretoken]")) {
            field.value = token;
        }
    }

    function note(time) {
        for (const since of document.querySelectorAll(".page-since")) {
            since.textContent = time;
            if (window.isLocal?.()) {
                window.localise(since);
            }
        }
    }

    async function ask(isLast) {
        try {
            const { url, user } = banner(OVER).dataset;
            const answer = await fetch(url, { redirect: "manual", signal: AbortSignal.timeout(PATIENCE) });
            // A proxy that logs people in leads away.
            if (answer.status === 401 || answer.type === "opaqueredirect") {
                return [OVER];
            }
            const told = answer.ok ? await answer.json() : null;
            // Of somebody who logged in meanwhile it is another session.
            return told ? [user && told.user !== user ? OVER : STANDS, told] : [AWAY];
        } catch (error) {
            if (isLast || error.name === "TimeoutError") {
                return [AWAY];
            }
            // Calls break, too, when a browser leaves the page: then nobody is there to call again.
            await new Promise((resolve) => { setTimeout(resolve, AGAIN); });
            return ask(true);
        }
    }

    async function lookNow() {
        const [what, told] = await ask(false);
        if (what === STANDS) {
            note(told.time);
            token = told.token;
            if (found !== STANDS) {
                renew();
                isPartStale = false;
                document.querySelectorAll(".page-unsent").forEach((words) => { words.hidden = true; });
            }
        }
        found = what;
        show();
        plan();
        return what;
    }

    function look() {
        clearTimeout(next);
        looking ??= lookNow().finally(() => { looking = null; });
        return looking;
    }

    function plan() {
        clearTimeout(next);
        const usual = found === STANDS ? USUALLY : WHILE_WRONG;
        next = setTimeout(look, document.hidden ? WHILE_HIDDEN : usual);
    }

    async function send(form, submitter) {
        isWaiting = true;
        const what = await look();
        isWaiting = false;
        if (what === STANDS) {
            renew();
            passing = form;
            form.requestSubmit(submitter);
            passing = null;
        } else {
            banner(what).querySelector(".page-unsent").hidden = false;
        }
    }

    document.addEventListener("submit", (event) => {
        const form = event.target;
        if (form === passing || form.getAttribute("method")?.toLowerCase() !== "post" || !banner(OVER)) {
            return;
        }
        event.preventDefault();
        event.stopImmediatePropagation();
        if (!isWaiting) {
            send(form, event.submitter);
        }
    }, true);

    document.addEventListener("DOMContentLoaded", () => {
        if (banner(OVER)) {
            plan();
            document.addEventListener("visibilitychange", () => (document.hidden ? plan() : look()));
            window.addEventListener("pageshow", (event) => event.persisted && look());
        }
    });

    document.addEventListener("htmx:beforeRequest", (event) => {
        if (isWaiting || found !== STANDS) {
            event.preventDefault();
        }
    });

    document.addEventListener("htmx:beforeSwap", ({ detail }) => {
        // A browser follows the redirect to the login by itself.
        const login = banner(OVER)?.querySelector("a").pathname;
        if (isWaiting) {
            detail.shouldSwap = false;
        } else if (detail.xhr.responseURL && new URL(detail.xhr.responseURL).pathname === login) {
            detail.shouldSwap = false;
            look();
        }
    });

    document.addEventListener("htmx:afterRequest", ({ detail }) => {
        if (detail.successful && isPartStale) {
            isPartStale = false;
            show();
        }
    });

    for (const failure of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) {
        document.addEventListener(failure, async () => {
            isPartStale = (await look()) === STANDS;
            if (isPartStale) {
                renew();
            }
            show();
        });
    }
}
