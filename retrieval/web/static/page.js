// What the page does beyond what a browser does by itself: one sound at a time, keys, copying, dropping a file.
// Everything else works without it. No library, no state beyond the page.
"use strict";

const $ = (selector, within = document) => within.querySelector(selector);
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
const live = $("#live");

document.documentElement.classList.add("scripted");

// A reader of the screen hears what was found, though the whole page is new.
if (live) {
  const line = $("#count") || $(".message h1");
  setTimeout(() => { if (line) live.textContent = line.textContent; }, 300);
}

// Playing one stops the others.
document.addEventListener("play", (event) => {
  for (const audio of $$("audio")) if (audio !== event.target) audio.pause();
}, true);

// Keys: "/" the query; arrows, j and k from clip to clip; space and enter play and stop. They can be turned off, as
// programs that listen to speech may type single letters, and are left to whatever else has the focus.
const clips = $$(".clip");
const keys = $("#keys");
const keysSwitch = $("#keys-switch");
const CONTROLS = "input, textarea, select, button, summary, audio, [contenteditable]";
let keysOn = remembered() !== "off";

function remembered() {
  try {
    return localStorage.getItem("keys");
  } catch {
    return null; // a browser that keeps nothing
  }
}

function showKeys() {
  if (keys) keys.hidden = !keysOn;
  keysSwitch.textContent = keysOn ? "Keys: on" : "Keys: off";
}

if (keysSwitch) {
  keysSwitch.hidden = false;
  showKeys();
  keysSwitch.addEventListener("click", () => {
    keysOn = !keysOn;
    showKeys();
    try {
      localStorage.setItem("keys", keysOn ? "on" : "off");
    } catch { /* then for this page only */ }
  });
}

function isAmongResults(target) {
  return target === document.body || target.id === "content" || target.closest(".clips") !== null;
}

function move(step) {
  const here = clips.indexOf(document.activeElement.closest(".clip"));
  const next = here < 0 ? (step > 0 ? 0 : -1) : here + step;
  if (!clips[next]) return false;
  clips[next].focus({ preventScroll: true });
  clips[next].scrollIntoView({ block: "nearest" });
  return true;
}

function toggle(clip) {
  const audio = $("audio", clip);
  if (!audio) return;
  if (audio.paused) audio.play().catch((error) => { if (error.name !== "AbortError") tellUnplayable(audio); });
  else audio.pause();
}

function say(text) {
  if (live) live.textContent = text;
}

function tellUnplayable(audio) {
  const text = "This sound cannot be played.";
  say(text);
  if (audio.nextElementSibling) return; // said before
  const line = document.createElement("p");
  line.className = "problem";
  line.textContent = text;
  audio.after(line);
}

document.addEventListener("error", (event) => {
  if (event.target.matches("audio")) tellUnplayable(event.target);
}, true);
document.addEventListener("playing", (event) => event.target.nextElementSibling?.remove(), true);

document.addEventListener("keydown", (event) => {
  if (!keysOn || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.target.closest(CONTROLS)) return;
  if (event.key === "/") { // with Shift on some keyboards
    const query = $("#q");
    if (!query) return;
    query.focus();
    query.select();
  } else if (event.shiftKey || !isAmongResults(event.target)) {
    return;
  } else if (event.key === "ArrowDown" || event.key === "j") {
    if (!move(1)) return;
  } else if (event.key === "ArrowUp" || event.key === "k") {
    if (!move(-1)) return;
  } else if ((event.key === " " || event.key === "Enter") && event.target.matches(".clip")) {
    if (!event.repeat) toggle(event.target);
  } else {
    return;
  }
  event.preventDefault();
});

// The line that gives credit.
async function copy(field) {
  try {
    await navigator.clipboard.writeText(field.value);
    return true;
  } catch {
    field.select(); // a page that is not from this machine may not write by itself, but may be asked to
    return document.execCommand("copy");
  }
}

for (const button of $$(".copy")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const done = await copy($("input", button.parentElement));
    button.textContent = done ? "Copied" : "Press Ctrl+C";
    say(done ? "Credit line copied." : "The line is selected: press Ctrl+C.");
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}

// Uploading: a file may be dropped anywhere on the page. It goes with the search's form, by a button of its own.
const upload = $("#upload");
if (upload) {
  const form = upload.closest("form");
  const input = $("#sound", upload);
  const button = $("button", upload);
  const problem = $("#upload-problem", upload);
  const label = button.textContent;
  const most = Number(upload.dataset.maxBytes);
  const hasFiles = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");

  const isFit = () => {
    const [file] = input.files;
    problem.textContent = file && file.size > most
      ? `That file has ${Math.ceil(file.size / 1048576)} MB; at most ${Math.floor(most / 1048576)} are taken. Cut out the part that matters.`
      : "";
    return !problem.textContent;
  };

  input.addEventListener("change", isFit);
  form.addEventListener("submit", (event) => {
    if (event.submitter !== button) {
      input.disabled = true; // a text is searched for, and no address names the file
      setTimeout(() => { input.disabled = false; });
      return;
    }
    if (!input.files.length) problem.textContent = "Choose a sound file first.";
    if (!input.files.length || !isFit()) {
      event.preventDefault();
      return;
    }
    button.textContent = "Listening…";
    setTimeout(() => { button.disabled = true; }); // once the form is on its way
    say("Listening to the sound.");
  });
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) form.reset(); // gone back to: it says again what the results are of
    button.disabled = false;
    button.textContent = label;
  });
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
    $("details", upload).open = true;
    document.body.classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dropping");
  });
  document.addEventListener("drop", (event) => {
    document.body.classList.remove("dropping");
    if (!hasFiles(event)) return;
    event.preventDefault();
    const one = new DataTransfer();
    one.items.add(event.dataTransfer.files[0]);
    input.files = one.files;
    if (isFit()) form.requestSubmit(button);
  });
}
