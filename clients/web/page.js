// The demonstration's page: shows one result, asks for the next, sends the user's own video.

const byId = (id) => document.getElementById(id);
const source = byId("source");
const dubbed = byId("dubbed");
const RECORD_S = 10;
const MAX_SKEW_S = 0.06;
const EXPECT = {
  footage: "",
  speech: "",
  actor: "Learning happens once for each face and takes some minutes without a graphics card. A first pass shows meanwhile.",
  dub: "",
};

let choices = null;
let own = null; // the name the server gave to the user's video
let shown = null; // the result on screen
let wanted = false; // the user has asked for the next result, so it may play at once
let suggested = ""; // the sentence that we put into the text field

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The demonstration has ended. Start it again in the terminal: livedub demo");
  }
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(sentence(content.error || `The server answered ${answer.status}.`));
  return content;
}

function sentence(text) {
  const start = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(start) ? start : `${start}.`;
}

function fail(error) {
  byId("error").textContent = error ? error.message || String(error) : "";
  byId("error").hidden = !error;
}

// The two videos: the dubbed one leads, the original follows.

function follow() {
  if (source.readyState && Math.abs(source.currentTime - dubbed.currentTime) > MAX_SKEW_S) {
    source.currentTime = dubbed.currentTime;
  }
  showClock();
  if (!dubbed.paused) requestAnimationFrame(follow);
}

function showClock() {
  const total = dubbed.duration || 0;
  const seek = byId("seek");
  seek.max = total || 1;
  if (!seek.matches(":active")) seek.value = dubbed.currentTime;
  const text = (s) => `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`;
  byId("clock").textContent = `${text(dubbed.currentTime)} / ${text(total)}`;
}

async function toggle() {
  if (!shown) return;
  if (dubbed.paused) {
    if (dubbed.ended) dubbed.currentTime = 0;
    source.currentTime = dubbed.currentTime;
    await dubbed.play().catch(() => {});
  } else {
    dubbed.pause();
  }
}

dubbed.addEventListener("play", () => {
  source.play().catch(() => {});
  byId("play").textContent = "Pause";
  follow();
});
for (const end of ["pause", "ended"]) {
  dubbed.addEventListener(end, () => {
    source.pause();
    source.currentTime = dubbed.currentTime;
    byId("play").textContent = "Play";
    showClock();
  });
}
dubbed.addEventListener("loadedmetadata", showClock);
for (const video of [source, dubbed]) video.addEventListener("click", toggle);
byId("play").addEventListener("click", toggle);
byId("seek").addEventListener("input", (event) => {
  dubbed.currentTime = Number(event.target.value);
  source.currentTime = dubbed.currentTime;
  showClock();
});
byId("sound").addEventListener("change", applySound);
document.addEventListener("keydown", (event) => {
  if (event.key === " " && event.target === document.body) {
    event.preventDefault();
    toggle();
  }
});

function applySound() {
  const chosen = byId("sound").value;
  source.muted = chosen !== "source";
  dubbed.muted = chosen !== "dubbed";
}

// What the server says.

function show(state) {
  const { job, result, error, waiting } = state;
  byId("status").hidden = !job && !waiting;
  if (job) {
    byId("status-text").textContent = `${job.text}…` + (waiting ? ` (${waiting} more waiting)` : "");
    byId("status-hint").textContent = EXPECT[job.step] || "";
    if (job.fraction === null) byId("bar").removeAttribute("value");
    else byId("bar").value = job.fraction;
  }
  fail(error ? new Error(sentence(error)) : null);
  if (result && result.id !== (shown && shown.id)) load(result);
  if (!result) unload();
}

function showWaiting(visible) {
  for (const text of document.querySelectorAll(".waiting")) text.hidden = !visible;
}

function unload() {
  shown = null;
  showWaiting(true);
  for (const video of [source, dubbed]) {
    if (!video.getAttribute("src")) continue;
    video.removeAttribute("src");
    video.load();
  }
  for (const id of ["play", "seek"]) byId(id).disabled = true;
  byId("badge").hidden = byId("facts").hidden = true;
}

function load(result) {
  const better = shown && shown.run === result.run; // the same words after more learning
  const position = better ? dubbed.currentTime : 0;
  const playing = better ? !dubbed.paused : wanted;
  shown = result;
  wanted = false;
  showWaiting(false);
  if (!better) source.src = result.source;
  dubbed.src = result.dubbed;
  if (position) dubbed.currentTime = position;
  applySound();
  byId("badge").textContent = result.preview ? "AI-generated mouth, first pass" : "AI-generated mouth";
  byId("badge").hidden = false;
  for (const id of ["play", "seek"]) byId(id).disabled = false;
  const original = byId("sound").querySelector('[value="source"]');
  original.disabled = result.report.footage !== "own";
  if (original.disabled && original.selected) byId("sound").value = "dubbed";
  byId("credit").hidden = result.report.footage === "own";
  showFacts(result);
  if (playing) dubbed.play().catch(() => {});
}

function showFacts({ report, dubbed: file }) {
  const fps = report.render_fps;
  const took = report.seconds;
  const facts = [
    ["Speed of the dub", `${fps.toFixed(0)} frames per second (a live picture has 25)`],
    ["Frames", `${report.dubbed} of ${report.frames} with a new mouth`],
    ["Synthetic", report.synthetic],
    ["Renderer", report.renderer],
    ["Time taken", times(took, report.actor_was_there)],
    ["Voice", report.voice ? `${report.voice} by espeak-ng` : "from a file"],
  ];
  const terms = facts.map(([name, value]) => {
    const pair = document.createElement("div");
    const term = document.createElement("dt");
    const text = document.createElement("dd");
    term.textContent = name;
    text.textContent = value;
    pair.append(term, text);
    return pair;
  });
  byId("numbers").replaceChildren(...terms);
  const messages = report.messages.map((message) => {
    const item = document.createElement("li");
    item.textContent = sentence(message);
    return item;
  });
  byId("messages").replaceChildren(...messages);
  byId("save").href = file;
  byId("facts").hidden = false;
}

function times(took, actorWasThere) {
  const parts = [`voice ${took.speech.toFixed(1)} s`];
  parts.push(actorWasThere ? "face already learnt" : `learning the face ${took.actor.toFixed(0)} s`);
  parts.push(`picture ${(took.footage + took.source).toFixed(1)} s`, `dub ${took.dub.toFixed(1)} s`);
  return parts.join(", ");
}

async function watch() {
  let version = -1;
  for (;;) {
    try {
      const state = await ask(`api/state?after=${version}`);
      version = state.version;
      show(state);
    } catch (error) {
      byId("status").hidden = true;
      fail(error);
      await new Promise((done) => setTimeout(done, 3000));
      version = -1;
    }
  }
}

// The next dub.

function chosenVoice() {
  return byId("language").value + byId("pitch").value;
}

function suggest() {
  const language = choices.featured.find((entry) => entry.code === byId("language").value);
  const text = byId("text");
  if (language && (text.value === suggested || !text.value.trim())) {
    text.value = suggested = language.text;
    text.lang = language.code;
    showCount();
  }
}

function showCount() {
  byId("count").textContent = `${byId("text").value.length} of ${choices.limits.text} characters`;
}

async function speak() {
  const face = document.querySelector("input[name=face]:checked").value;
  fail(null);
  try {
    wanted = true;
    await ask("api/dub", {
      method: "POST",
      body: JSON.stringify({
        text: byId("text").value,
        voice: chosenVoice(),
        footage: face === "own" ? own : "portrait",
      }),
    });
  } catch (error) {
    wanted = false;
    fail(error);
  }
}

byId("form").addEventListener("submit", (event) => {
  event.preventDefault();
  speak();
});
byId("text").addEventListener("input", showCount);
byId("language").addEventListener("change", suggest);
byId("stop").addEventListener("click", () => ask("api/stop", { method: "POST" }).catch(fail));

// The user's own video.

byId("consent").addEventListener("change", enableOwn);

function enableOwn() {
  const allowed = byId("consent").checked;
  byId("record").disabled = byId("choose").disabled = !allowed;
  byId("choose-label").classList.toggle("off", !allowed);
}

function useOwn(name) {
  own = name;
  byId("own-choice").hidden = byId("forget").hidden = !name;
  document.querySelector(`input[name=face][value=${name ? "own" : "portrait"}]`).checked = true;
}

async function send(video) {
  fail(null);
  if (video.size > choices.limits.upload_bytes) {
    fail(new Error(`The video is larger than ${choices.limits.upload_bytes >> 20} MB; a shorter piece is enough.`));
    return;
  }
  byId("own-status").textContent = "Handing over…";
  try {
    const query = new URLSearchParams({ consent: byId("consent").checked ? "yes" : "no", name: byId("name").value });
    const answer = await ask(`api/footage?${query}`, { method: "POST", body: video });
    useOwn(answer.footage);
    byId("own-status").textContent = "Your video is here.";
    await speak();
  } catch (error) {
    byId("own-status").textContent = "";
    fail(error);
  }
}

byId("choose").addEventListener("change", (event) => {
  const [file] = event.target.files;
  event.target.value = "";
  if (file) send(file);
});

async function record() {
  let camera = null;
  fail(null);
  try {
    const picture = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 25 }, facingMode: "user" };
    camera = await navigator.mediaDevices.getUserMedia({ video: picture, audio: true });
    enableWhile(false);
    const preview = byId("preview");
    preview.srcObject = camera;
    preview.hidden = false;
    await preview.play();
    for (let left = 3; left > 0; left -= 1) {
      byId("own-status").textContent = `Look into the camera. Recording starts in ${left}…`;
      await pause(1);
    }
    const video = await take(camera);
    hideCamera(camera);
    await send(video);
  } catch (error) {
    byId("own-status").textContent = "";
    fail(cameraError(error));
  } finally {
    if (camera) hideCamera(camera);
    enableWhile(true);
  }
}

async function take(camera) {
  const recorder = new MediaRecorder(camera, { videoBitsPerSecond: 6_000_000 });
  const parts = [];
  recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
  const done = new Promise((resolve) => recorder.addEventListener("stop", resolve, { once: true }));
  recorder.start();
  for (let left = RECORD_S; left > 0; left -= 1) {
    byId("own-status").textContent = `Recording: say anything, move naturally. ${left} s left.`;
    await pause(1);
  }
  recorder.stop();
  await done;
  return new Blob(parts, { type: recorder.mimeType });
}

function cameraError(error) {
  const words = {
    NotAllowedError: "The browser may not use the camera. Allow it in the address bar, or choose a file.",
    NotFoundError: "No camera or no microphone was found. Choose a file instead.",
    NotReadableError: "Another program is using the camera. Close it, or choose a file.",
  };
  return new Error(words[error.name] || error.message);
}

function hideCamera(camera) {
  for (const track of camera.getTracks()) track.stop();
  byId("preview").srcObject = null;
  byId("preview").hidden = true;
}

function enableWhile(enabled) {
  byId("consent").disabled = !enabled;
  if (enabled) enableOwn();
  else byId("record").disabled = byId("choose").disabled = true;
}

const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

byId("record").addEventListener("click", record);
byId("forget").addEventListener("click", async () => {
  try {
    await ask("api/footage", { method: "DELETE" });
    useOwn(null);
    byId("own-status").textContent = "Your video and what was learnt from it are deleted.";
  } catch (error) {
    fail(error);
  }
});

// Start.

function option(value, text) {
  const made = document.createElement("option");
  made.value = value;
  made.textContent = text;
  return made;
}

async function begin() {
  choices = await ask("api/choices");
  const common = document.createElement("optgroup");
  common.label = "Common";
  common.append(...choices.featured.map(({ code, name }) => option(code, name)));
  const more = document.createElement("optgroup");
  more.label = "More";
  more.append(...choices.voices.map(({ code, name }) => option(code, name)));
  byId("language").append(common, more);
  const [language, pitch] = choices.voice.split("+");
  byId("language").value = language;
  byId("pitch").value = pitch && pitch.startsWith("m") ? "+m3" : "+f3";
  byId("text").value = suggested = choices.text;
  byId("text").maxLength = choices.limits.text;
  byId("portrait").textContent = choices.portrait;
  byId("statement").textContent = choices.statement;
  if (choices.own) useOwn(choices.own);
  byId("forget").hidden = !choices.forgettable;
  showCount();
  enableOwn();
}

begin().catch(fail);
watch();
