/** Dialogs: to sign in, to ask before something is lost, and for help. */

import { button, el } from "./dom.js";

/**
 * Show a dialog until it is closed.
 * @template T
 * @param {string} title
 * @param {(close: (result: T) => void) => any[]} content  what is in it
 * @param {T} otherwise  the result if it is dismissed
 * @returns {Promise<T>}
 */
export function dialog(title, content, otherwise, props = {}) {
  return new Promise((resolve) => {
    let result = otherwise;
    const close = (value) => {
      result = value;
      box.close();
    };
    const box = el(
      "dialog",
      { "aria-labelledby": "dialog-title", ...props },
      el("h2", { id: "dialog-title" }, title),
      content(close),
    );
    box.addEventListener("close", () => {
      box.remove();
      resolve(result);
    });
    document.body.append(box);
    box.showModal();
  });
}

/**
 * Ask before something is done that cannot be undone.
 * @returns {Promise<boolean>}
 */
export function confirm(title, text, action) {
  return dialog(
    title,
    (close) => [
      el("p", {}, text),
      el(
        "div",
        { class: "actions" },
        button("Cancel", () => close(false), { autofocus: true }),
        button(action, () => close(true), { class: "danger" }),
      ),
    ],
    false,
    { role: "alertdialog" },
  );
}

/**
 * Ask for a token.
 * @param {string} reason
 * @returns {Promise<string | null>}
 */
export function askToken(reason) {
  return dialog(
    "Sign in",
    (close) => {
      const input = el("input", {
        type: "password",
        id: "token",
        name: "token",
        autocomplete: "current-password",
        required: true,
        autofocus: true,
        spellcheck: "false",
      });
      const submit = (event) => {
        event.preventDefault();
        const token = input.value.trim();
        if (token) close(token);
      };
      return [
        el("p", { id: "signin-reason" }, reason),
        el(
          "form",
          { on: { submit } },
          el("label", { for: "token" }, "Token"),
          input,
          el(
            "p",
            { class: "hint" },
            "Whoever runs this server gives you one. It is kept until you close this tab or sign out, and sent to this server only.",
          ),
          el(
            "div",
            { class: "actions" },
            button("Cancel", () => close(null)),
            el("button", { type: "submit", class: "primary" }, "Sign in"),
          ),
        ),
      ];
    },
    null,
    { class: "signin" },
  );
}

const SHORTCUTS = [
  ["/", "write a filter"],
  ["↓ ↑ or j k", "go through the rows, Enter opens one"],
  ["u", "up to the folder"],
  ["n p", "next page, back"],
  ["v", "folders or all keys"],
  ["a", "upload files"],
  ["e", "edit the metadata of a key"],
  ["d", "download a key"],
  ["?", "this help"],
  ["Esc", "close, cancel"],
];

const FILTERS = [
  ["m31", "keys with m31 in their name"],
  ["filter = B", 'a field and its value; quotes make a text of anything: "30"'],
  ["exposure >= 30 exposure < 60", "several conditions must all hold"],
  ["name ^= m3", "begins with; *= is contains"],
  ["filter in (B, V)", "one of several"],
  ["has note", "the field is there; not has note"],
  ["(a = 1 or b = 2) and not c = 3", "put together"],
  ["camera.gain > 2", "a field within an object"],
  ['{"exposure": {"ge": 30}}', "the filter language of the server, as JSON"],
];

/** Help, with a switch for keyboard shortcuts. @param {{isOn: boolean, set: (isOn: boolean) => void}} shortcuts */
export function help(shortcuts) {
  const list = (pairs, tag) =>
    el("dl", {}, pairs.map(([key, says]) => [el("dt", {}, el(tag, {}, key)), el("dd", {}, says)]).flat());
  return dialog(
    "Help",
    (close) => [
      el(
        "div",
        { class: "help-columns" },
        el("section", {}, el("h3", {}, "Filters"), list(FILTERS, "code")),
        el(
          "section",
          {},
          el("h3", {}, "Keyboard"),
          list(SHORTCUTS, "kbd"),
          el(
            "label",
            { class: "check" },
            el("input", {
              type: "checkbox",
              checked: shortcuts.isOn,
              on: { change: (event) => shortcuts.set(event.target.checked) },
            }),
            "Shortcuts of a single key are on",
          ),
        ),
      ),
      el(
        "p",
        { class: "hint" },
        "The address of this page is a link to what it shows: copy it to share it. Files can be dropped anywhere.",
      ),
      el(
        "div",
        { class: "actions" },
        button("Close", () => close(undefined), { class: "primary", autofocus: true }),
      ),
    ],
    undefined,
    { class: "help" },
  );
}
