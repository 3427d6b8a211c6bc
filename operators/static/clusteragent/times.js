// Shows times in the browser's zone instead of UTC, and takes them so, where somebody wants that. What is quoted stays as it is.
"use strict";

const ZONE = "clusteragent.zone";
// What the head of the sidebar says.
const IN_UTC = "all times are UTC";
const CLOCK = /\d\d:\d\d(:\d\d)?/;
const LABEL = /^(?:\d+ \S+ )?\d\d:\d\d/;
const MOMENT = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d(?::\d\d)?)(,?)$/;
const TOLD = /(?:(\d{4}-\d\d-\d\d) )?\b(\d\d:\d\d(?::\d\d)?) UTC\b/g;
// The words of others: errors, configs, what was recorded.
const QUOTED = "pre, code, textarea, input, select, script, style, blockquote, .ace_editor, .field-last_error";

function part(time, options) {
    return new Intl.DateTimeFormat("en-GB", options).format(time);
}

function zone(time) {
    const parts = new Intl.DateTimeFormat("en-GB", {timeZoneName: "short"}).formatToParts(time);
    return parts.find((one) => one.type === "timeZoneName").value;
}

function clock(time, shape) {
    const seconds = shape.length > 5 ? {second: "2-digit"} : {};
    return part(time, {hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...seconds});
}

function day(time) {
    return ["getFullYear", "getMonth", "getDate"]
        .map((name) => String(time[name]() + (name === "getMonth")).padStart(2, "0")).join("-");
}

// A time without its date is of today, by the clock of the browser.
function told(text) {
    return text.replace(TOLD, (_, date, shape) => {
        const time = new Date(`${date || new Date().toISOString().slice(0, 10)}T${shape}Z`);
        return `${date ? `${day(time)} ` : ""}${clock(time, shape)} ${zone(time)}`;
    });
}

function moment(text) {
    const found = MOMENT.exec(text.trim());
    if (!found) {
        return told(text);
    }
    const time = new Date(`${found[1]}T${found[2]}Z`);
    return `${day(time)} ${clock(time, found[2])} ${zone(time)}${found[3]}`;
}

// `12:05`, or `28 Nov 12:00`: what stands there of a time.
function short(text, time) {
    const date = /^\d+ \S+ \d/.test(text) ? `${part(time, {day: "numeric", month: "short"})} ` : "";
    return `${date}${clock(time, CLOCK.exec(text)[0])}`;
}

function marked(element) {
    const time = new Date(element.dateTime);
    if (CLOCK.test(element.textContent) && !Number.isNaN(time.getTime())) {
        element.textContent = short(element.textContent, time);
    }
    element.title = moment(element.title || element.dateTime.slice(0, 19).replace("T", " "));
}

// When a point of a chart or of a strip begins.
function begins(element, number) {
    return new Date(Date.parse(element.dataset.first) + 1000 * element.dataset.step * number);
}

// Charts are drawn of what stands in the page, before or after this.
function charted(canvas) {
    const data = JSON.parse(canvas.dataset.value);
    data.labels = data.labels.map((label, number) => short(label, begins(canvas, number)));
    canvas.dataset.value = JSON.stringify(data);
    const drawn = window.Chart && Chart.getChart(canvas);
    if (drawn) {
        drawn.data.labels = data.labels;
        drawn.update();
    }
}

function stripped(strip) {
    [...strip.children].forEach((cell, number) => {
        cell.title = cell.title.replace(LABEL, (label) => short(label, begins(strip, number)));
    });
}

function localise(root) {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    const texts = [];
    while (walker.nextNode()) {
        const parent = walker.currentNode.parentElement;
        if (parent && !parent.closest(`${QUOTED}, time`) && CLOCK.test(walker.currentNode.data)) {
            texts.push(walker.currentNode);
        }
    }
    for (const text of texts) {
        text.data = moment(text.data);
    }
    for (const element of root.querySelectorAll("time[datetime]")) {
        marked(element);
    }
    root.querySelectorAll("canvas[data-first]").forEach(charted);
    root.querySelectorAll(".strip[data-first]").forEach(stripped);
    for (const element of root.querySelectorAll(".zone")) {
        element.textContent = zone(new Date());
    }
    for (const element of root.querySelectorAll("[aria-label*=' UTC']")) {
        element.setAttribute("aria-label", told(element.getAttribute("aria-label")));
    }
}

// What is typed is of the zone that is shown, too: the form says which, by its name.
function typed(root, own) {
    const {timeZone} = Intl.DateTimeFormat().resolvedOptions();
    for (const form of root.querySelectorAll("form:has([data-zoned])")) {
        let sent = form.querySelector("input[name=zone]");
        if (!sent) {
            sent = Object.assign(document.createElement("input"), {type: "hidden", name: "zone"});
            form.append(sent);
        }
        sent.value = timeZone;
        for (const field of form.querySelectorAll("[data-zoned]")) {
            if (/^\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?$/.test(field.value)) {
                const time = new Date(`${field.value.replace(" ", "T")}Z`);
                field.value = `${day(time)}${field.value[10]}${clock(time, field.value.slice(11))}`;
            }
        }
        const walker = document.createTreeWalker(form, NodeFilter.SHOW_TEXT);
        while (walker.nextNode()) {
            walker.currentNode.data = walker.currentNode.data.replace("in UTC", `in ${own}`).replace(/^At \(.*\)/, `At (${own})`);
        }
    }
}

function isLocal() {
    return localStorage.getItem(ZONE) === "local";
}

document.addEventListener("DOMContentLoaded", () => {
    const main = document.getElementById("page-main");
    const button = document.getElementById("page-zone");
    if (!main || !button) {
        return;
    }
    const own = zone(new Date());
    button.hidden = false;
    const shown = isLocal() ? own : "UTC";
    button.textContent = shown;
    button.setAttribute("aria-label", `Times in ${shown}`);
    button.title = isLocal() ? `Times are of your zone, ${own}. Show UTC` : `All times are UTC. Show those of your zone, ${own}`;
    button.addEventListener("click", () => {
        localStorage.setItem(ZONE, isLocal() ? "utc" : "local");
        // With `#…` at its end the same address would not be loaded anew.
        location.assign(location.pathname + location.search);
    });
    if (isLocal()) {
        localise(main);
        typed(main, own);
        for (const element of document.querySelectorAll("nav *, aside *")) {
            if (!element.childElementCount && element.textContent.includes(IN_UTC)) {
                element.textContent = element.textContent.replace(IN_UTC, `times are ${own}`);
            }
        }
    }
});

document.addEventListener("htmx:afterSettle", ({detail}) => {
    if (isLocal()) {
        localise(detail.elt);
    }
});
