"use strict";

const root = document.getElementById("main").dataset.root;
const byId = (id) => document.getElementById(id);

// --- updates from the server -----------------------------------------------------------------

function element(html) {
  const template = document.createElement("template");
  template.innerHTML = html.trim();
  return template.content.firstElementChild;
}

/* If the old element has the focus, the same button of the new element gets it. */
function applyFragment([id, into, html]) {
  const old = byId(id);
  const fresh = element(html);
  if (!old) {
    const parent = byId(into);
    const heading = parent.querySelector(":scope > h3");
    if (heading) heading.after(fresh);
    else parent.append(fresh);
    return;
  }
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  const changed = fresh.dataset.state !== old.dataset.state;
  old.replaceWith(fresh);
  if (changed) fresh.classList.add("flash");
  if (!focused) return;
  const same = [...fresh.querySelectorAll("button, [tabindex]")].find(
    (button) => button.dataset.do === focused.dataset.do && button.className === focused.className
  );
  (same || fresh).focus();
}

/* The fields are those of `Message` in services/coordinator/page/difference.py. */
function applyMessage(message) {
  for (const fragment of message.parts || []) applyFragment(fragment);
  for (const id of message.gone || []) byId(id)?.remove();
  for (const sentence of message.say || []) addEvent(sentence);
  tick();
}

function addEvent(sentence) {
  const line = document.createElement("li");
  line.textContent = `${clock(Date.now())}  ${sentence}`;
  byId("events").prepend(line);
  while (byId("events").children.length > 50) byId("events").lastChild.remove();
}

function showConnection(isLive) {
  const link = byId("link");
  const text = isLive ? "● live" : "○ reconnecting";
  if (link.textContent !== text) link.textContent = text;
  link.className = `badge ${isLive ? "good" : "warn"}`;
}

function connect() {
  const source = new EventSource(`${root}/api/v1/events`);
  source.onopen = () => showConnection(true);
  source.onmessage = (event) => applyMessage(JSON.parse(event.data));
  source.onerror = () => {
    showConnection(false);
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 3000);
  };
}

// --- times -----------------------------------------------------------------------------------

const clock = (ms) => new Date(ms).toLocaleTimeString(undefined, { hour12: false });

function age(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}

function tick() {
  for (const time of document.querySelectorAll("time[data-since]")) {
    time.textContent = age(Date.now() - Number(time.dataset.since));
  }
  for (const time of document.querySelectorAll("time[data-at]")) {
    const at = new Date(Number(time.dataset.at));
    time.dateTime = at.toISOString();
    const isToday = at.toDateString() === new Date().toDateString();
    time.textContent = isToday ? clock(at) : `${at.toLocaleDateString()} ${clock(at)}`;
  }
}

// --- actions ---------------------------------------------------------------------------------

const TOKEN = "postjournal-token";

/* `up` prints an address with the token after the #; browsers never send that part. */
function moveTokenToSession() {
  const found = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!found) return;
  sessionStorage.setItem(TOKEN, found);
  history.replaceState(null, "", location.pathname);
}

async function call(method, path, body) {
  const headers = {};
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  const response = await fetch(`${root}${path}`, {
    method, headers, body: body && JSON.stringify(body),
  });
  const result = await response.json();
  if (response.status === 401) openTokenDialog();
  if (!response.ok) throw new Error(`${result.title}: ${result.detail}`);
  return result;
}

function openTokenDialog() {
  byId("token").value = sessionStorage.getItem(TOKEN) || "";
  if (!byId("token-dialog").open) byId("token-dialog").showModal();
}

const ACTIONS = {
  async snapshot(button) {
    const shard = "shard" in button.dataset ? Number(button.dataset.shard) : null;
    const result = await call("POST", "/api/v1/snapshots", { shard });
    return `snapshot ${result.id} requested`;
  },
  async handover(button) {
    const { shard, replica } = button.dataset;
    const body = { shard: Number(shard), successor: replica || null };
    const result = await call("POST", "/api/v1/handover", body);
    return `handover of shard ${shard} requested from ${result.leader}`;
  },
  async crash(button) {
    const { replica } = button.dataset;
    if (!confirm(`Crash ${replica} with SIGKILL?`)) return `crash of ${replica} cancelled`;
    await call("POST", "/api/v1/crash", { replica });
    return `${replica} has crashed`;
  },
};

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-do]");
  if (!button || button.ariaDisabled === "true") return;
  button.ariaDisabled = "true"; /* a disabled button would lose the focus */
  try {
    addEvent(await ACTIONS[button.dataset.do](button));
  } catch (error) {
    addEvent(error.message);
  }
  button.ariaDisabled = null;
});

byId("token-button")?.addEventListener("click", openTokenDialog);
byId("token-dialog").addEventListener("close", () => {
  if (byId("token-dialog").returnValue !== "save") return;
  sessionStorage.setItem(TOKEN, byId("token").value.trim());
  addEvent("token saved in this tab");
});

byId("query-at").addEventListener("change", (event) => {
  byId("query-point-line").hidden = event.target.value === "now";
  byId("query-point").required = event.target.value !== "now";
});

byId("query").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  const text = form.get("text").trim();
  const parameters = new URLSearchParams(text.includes("=") ? text : { account: text });
  parameters.set("shard", form.get("shard") || "0");
  const kind = form.get("kind");
  parameters.set("at", kind === "now" ? "now" : `${kind}:${form.get("point").trim()}`);
  byId("query-answer").textContent = "reading …";
  try {
    showAnswer(await call("GET", `/api/v1/query?${parameters}`));
  } catch (error) {
    byId("query-answer").textContent = error.message;
  }
});

function showAnswer(result) {
  const position = document.createElement("p");
  const origin = result.replica ? `answered by ${result.replica}` : `replayed in ${result.seconds} s`;
  position.textContent = `As of seq ${result.seq}, epoch ${result.epoch}; ${origin}.`;
  const body = document.createElement("pre");
  body.textContent = result.answer === null ? "no result" : JSON.stringify(result.answer, null, 2);
  byId("query-answer").replaceChildren(body, position);
}

const THEME = "postjournal-theme";

function applyTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
}

byId("theme").addEventListener("click", () => {
  const isDark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  const theme = isDark ? "light" : "dark";
  localStorage.setItem(THEME, theme);
  applyTheme(theme);
});

applyTheme(localStorage.getItem(THEME));
moveTokenToSession();
tick();
setInterval(tick, 1000);
connect();
