// The editor for YAML: its colours, the way out of it by keyboard, remarks beside its lines, and templates.
"use strict";

// The server judges the text, and the policy for scripts allows no worker.
ace.config.setDefaultValue("session", "useWorker", false);

// What it says, however it is spelled.
function said({ textContent }) {
    return textContent.trim().replace(/\s+/g, " ").toLowerCase();
}

function rows(remarks) {
    return [...remarks.querySelectorAll("[data-line]")].map(({ dataset, textContent }) => ({
        row: Number(dataset.line) - 1,
        column: 0,
        type: dataset.kind,
        text: textContent.trim().replace(/\s+/g, " "),
    }));
}

addEventListener("load", () => {
    const widget = document.querySelector(".django-ace-widget");
    if (!widget?.editor) {
        return;
    }
    const { editor } = widget;
    const field = widget.nextElementSibling;
    const check = document.querySelector("input[name=check]");
    // What stands there without having been written: not what a browser puts back that leads to the page again.
    let untouched = field.defaultValue.replace(/^\n/, "");

    // Tab indents only after Enter, so that the keyboard leads past it.
    editor.setOptions({ enableKeyboardAccessibility: true, textInputAriaLabel: "YAML" });
    const paint = () => editor.setTheme(
        document.documentElement.classList.contains("dark") ? "ace/theme/github_dark" : "ace/theme/github_light_default",
    );
    paint();
    new MutationObserver(paint).observe(document.documentElement, { attributeFilter: ["class"] });
    // What was wrong when it was sent: below a long text the bar of buttons would hide it, and it is about that text alone.
    const sent = document.getElementById("id_yaml_error");
    // Ace grows to its lines a moment later, and would push it out of sight.
    editor.resize(true);
    // What is wrong with the form as a whole stands above it, below all that the page says of the config.
    (sent ?? document.querySelector(".errornote"))?.scrollIntoView({ block: "center" });
    if (sent) {
        editor.renderer.scroller.focus({ preventScroll: true });
    }
    editor.session.on("change", () => {
        sent?.remove();
        field.dispatchEvent(new Event("input", { bubbles: true }));
    });
    const annotate = (remarks) => {
        for (const line of remarks.querySelectorAll("li")) {
            line.hidden = sent?.isConnected && said(sent).includes(said(line.lastChild));
        }
        editor.session.setAnnotations(rows(remarks));
    };
    document.body.addEventListener("htmx:afterSwap", ({ detail }) => {
        if (detail.target.id === "yaml-remarks") {
            annotate(detail.target);
        }
    });
    // The first may have come before all was loaded.
    annotate(document.getElementById("yaml-remarks"));
    check.addEventListener("change", async () => {
        if (editor.getValue() === untouched && field.dataset.template) {
            const answer = await fetch(`${field.dataset.template}?${new URLSearchParams({ check: check.value })}`);
            const text = await answer.text();
            // Somebody may have begun to write meanwhile.
            if (answer.ok && text !== untouched && editor.getValue() === untouched) {
                untouched = text;
                editor.setValue(text, -1);
            }
        }
    });
});
