"use strict";

const root = document.getElementById("main").dataset.root;
const find = (id) => document.getElementById(id);

// --- what the server tells -------------------------------------------------------------------

function element(html) {
  const template = document.createElement("template");
  template.innerHTML = html.trim();
  return template.content.firstElementChild;
}

/* The same button of the fresh part gets the focus that the old one had. */
function place(part) {
  const [id, into, html] = part;
  const old = find(id);
  const fresh = element(html);
  if (!old) {
    const parent = find(into);
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
    (each) => each.dataset.do === focused.dataset.do && each.className === focused.className
  );
  (same || fresh).focus();
}

function take(message) {
  for (const part of message.parts || []) place(part);
  for (const id of message.gone || []) find(id)?.remove();
  for (const sentence of message.say || []) say(sentence);
  tick();
}

function say(sentence) {
  const line = document.createElement("li");
  line.textContent = `${clock(Date.now())}  ${sentence}`;
  find("news").prepend(line);
  while (find("news").children.length > 50) find("news").lastChild.remove();
}

function live(is) {
  const link = find("link");
  const text = is ? "● live" : "○ connecting again";
  if (link.textContent !== text) link.textContent = text;
  link.className = `badge ${is ? "good" : "warn"}`;
}

function connect() {
  const source = new EventSource(`${root}/api/v1/events`);
  source.onopen = () => live(true);
  source.onmessage = (event) => take(JSON.parse(event.data));
  source.onerror = () => {
    live(false);
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

// --- what people do --------------------------------------------------------------------------

const TOKEN = "postjournal-token";

/* `up` prints an address with the token behind the #, which no browser sends anywhere. */
function takeTokenFromAddress() {
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
  const answer = await fetch(`${root}${path}`, {
    method, headers, body: body && JSON.stringify(body),
  });
  const told = await answer.json();
  if (answer.status === 401) askForToken();
  if (!answer.ok) throw new Error(`${told.title}: ${told.detail}`);
  return told;
}

function askForToken() {
  find("token").value = sessionStorage.getItem(TOKEN) || "";
  if (!find("token-dialog").open) find("token-dialog").showModal();
}

const ACTIONS = {
  async snapshot(button) {
    const shard = "shard" in button.dataset ? Number(button.dataset.shard) : null;
    const told = await call("POST", "/api/v1/snapshots", { shard });
    return `snapshot ${told.id} is asked for`;
  },
  async handover(button) {
    const { shard, replica } = button.dataset;
    const body = { shard: Number(shard), successor: replica || null };
    const told = await call("POST", "/api/v1/handover", body);
    return `${told.leader} is asked to hand over shard ${shard}`;
  },
  async crash(button) {
    const { replica } = button.dataset;
    if (!confirm(`Crash ${replica} with SIGKILL?`)) return `${replica} lives on`;
    await call("POST", "/api/v1/crash", { replica });
    return `${replica} is crashed`;
  },
};

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-do]");
  if (!button || button.ariaDisabled === "true") return;
  button.ariaDisabled = "true"; /* a button that is disabled would lose the focus */
  try {
    say(await ACTIONS[button.dataset.do](button));
  } catch (error) {
    say(error.message);
  }
  button.ariaDisabled = null;
});

find("token-button")?.addEventListener("click", askForToken);
find("token-dialog").addEventListener("close", () => {
  if (find("token-dialog").returnValue !== "keep") return;
  sessionStorage.setItem(TOKEN, find("token").value.trim());
  say("the token is kept in this tab");
});

find("query-at").addEventListener("change", (event) => {
  find("query-point-line").hidden = event.target.value === "now";
  find("query-point").required = event.target.value !== "now";
});

find("query").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  const text = form.get("text").trim();
  const asked = new URLSearchParams(text.includes("=") ? text : { account: text });
  asked.set("shard", form.get("shard") || "0");
  const kind = form.get("kind");
  asked.set("at", kind === "now" ? "now" : `${kind}:${form.get("point").trim()}`);
  find("query-answer").textContent = "asking …";
  try {
    answer(await call("GET", `/api/v1/query?${asked}`));
  } catch (error) {
    find("query-answer").textContent = error.message;
  }
});

function answer(told) {
  const place = document.createElement("p");
  const point = told.replica ? `answered by ${told.replica}` : `replayed in ${told.seconds} s`;
  place.textContent = `As of seq ${told.seq}, epoch ${told.epoch}; ${point}.`;
  const body = document.createElement("pre");
  body.textContent = told.answer === null ? "nothing is known of it" : JSON.stringify(told.answer, null, 2);
  find("query-answer").replaceChildren(body, place);
}

const THEME = "postjournal-theme";

function paint(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
}

find("theme").addEventListener("click", () => {
  const isDark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  const theme = isDark ? "light" : "dark";
  localStorage.setItem(THEME, theme);
  paint(theme);
});

paint(localStorage.getItem(THEME));
takeTokenFromAddress();
tick();
setInterval(tick, 1000);
connect();
