// The keyboard's ways that browsers have not: Enter and Space press what unfold made for the mouse alone, and lead into what it opens;
// Escape leads back. The bars of a chart and the tiles of a map are one stop of Tab, within which the arrows lead on. In a form that
// was refused the first wrong field has the focus.
"use strict";

{
    const OPENED = "[x-show]";
    const GROUPS = ".pages-chart, .tiles";
    const STEPS = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 };
    const WITHIN = "a[href], button, input:not([type=hidden]), select, [tabindex='0']";
    const FIELDS = "main form :is(input:not([type=hidden]), select, textarea):not([disabled])";
    let opener = null;

    const shown = () => [...document.querySelectorAll(OPENED)].filter((part) => part.checkVisibility());

    function open(control) {
        const before = shown();
        control.click();
        // Two frames later, what opens is there.
        requestAnimationFrame(() => requestAnimationFrame(() => {
            const part = shown().find((one) => !before.includes(one));
            const first = [...part?.querySelectorAll(WITHIN) ?? []].find((one) => one.checkVisibility());
            if (first) {
                opener = control;
                first.focus();
            }
        }));
    }

    function leave() {
        // Menus close on a click beside them.
        document.body.click();
        opener.focus();
        opener = null;
    }

    function stopAt(links, link) {
        links.forEach((one) => one.setAttribute("tabindex", one === link ? 0 : -1));
    }

    function step(group, by) {
        const links = [...group.querySelectorAll("a")];
        const link = links[links.indexOf(document.activeElement) + by];
        link?.focus();
    }

    // What is to be written is asked for: of a new row, whose first field Django looks for before unfold shows the page, or by a page
    // that asks how an act is meant. Without the focus there, what is typed would be keys.
    function isToBeWritten() {
        return Boolean(document.getElementById("django-admin-form-add-constants")?.dataset.modelName
            ?? document.querySelector("form[data-focus]"));
    }

    document.addEventListener("keydown", (event) => {
        const { key, target } = event;
        const group = target.closest(GROUPS);
        if ((key === "Enter" || key === " ") && target.matches("[role=button]:not(button)")) {
            event.preventDefault();
            open(target);
        } else if (key === "Escape" && opener) {
            leave();
        } else if (key === "Escape" && target.matches("form[role=search] input:placeholder-shown")) {
            target.blur();
        } else if (group && Object.hasOwn(STEPS, key)) {
            event.preventDefault();
            step(group, STEPS[key]);
        }
    });

    document.addEventListener("focusin", ({ target }) => {
        const group = target.closest(GROUPS);
        if (group && target.matches("a")) {
            stopAt([...group.querySelectorAll("a")], target);
        }
    });

    addEventListener("load", () => {
        for (const group of document.querySelectorAll(GROUPS)) {
            const links = [...group.querySelectorAll("a")];
            stopAt(links, links[0]);
        }
        const wrong = document.querySelector("main [aria-invalid=true]");
        // The content itself has it where the skip link led to it before.
        if (wrong || (isToBeWritten() && document.activeElement.matches("body, main"))) {
            (wrong ?? document.querySelector(FIELDS)).focus();
        }
    });
}
