// The page asks the server for everything and keeps no results of its own.
const at = id => document.getElementById(id);
const explanations = {
  'coarse': 'Every patch of the image is compared with every name, alone. A name’s score is that of '
    + 'its best patch.',
  'DMAR': 'Dual-masking attention refinement: scores spread between patches that attend to each '
    + 'other, so that the parts of an object agree.',
  'CWR': 'Class-wise reidentification: the region of each candidate is cropped and shown to CLIP '
    + 'again. The mean of both scores counts.',
  'scores': 'Scores of the whole image.',
};
const MAX_MAPS = 6;
const MAX_NAMES = 12;
const OWN = 'the model’s own';
const narrow = matchMedia('(max-width: 760px)');
let key = null;      // of the image on the server
let question = 0;    // only the last one is asked and shown
let asking = Promise.resolve();
let model = null;
let level = null;    // of the background; null is the model's own
let floor = null;    // lowest score of a tag; null is above noise

function element(kind, properties = {}, ...children) {
  const made = Object.assign(document.createElement(kind), properties);
  made.append(...children);
  return made;
}

function say(text, isError = false) {
  at('status').textContent = text;
  at('status').classList.toggle('error', isError);
}

async function call(path, options, tries = 5) {
  const response = await fetch(path, options);
  if (response.status === 429 && tries > 1) {  // the server is busy
    const seconds = Number(response.headers.get('Retry-After'));
    await new Promise(resolve => setTimeout(resolve, 1000 * seconds));
    return call(path, options, tries - 1);
  }
  const answer = await response.json().catch(() => ({error: `The server answered ${response.status}`}));
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

async function guarded(work) {
  document.body.classList.add('busy');
  try {
    await work();
  } catch (error) {
    say(error instanceof TypeError ? 'The server cannot be reached.' : error.message, true);
  } finally {
    document.body.classList.remove('busy');
  }
}

async function take(path, options) {
  await guarded(async () => {
    say('Reading the image …');
    const taken = await call(path, options);
    key = taken.key;
    at('image').src = `/api/${key}/image.jpg`;
    at('image').alt = taken.name;
    at('notice').textContent = taken.notice ?? '';
    at('notice').hidden = !taken.notice;
    at('name').textContent = `${taken.name}, ${taken.width} × ${taken.height} pixels`;
    at('shown').hidden = false;
    bringIntoView();
    await ask();
    bringIntoView();
  });
}

// On a narrow screen the results are below everything else.
function bringIntoView() {
  if (narrow.matches) at('results').scrollIntoView({block: 'start'});
}

function upload(file) {
  if (!file) return;
  if (file.size > model.upload_bytes) {
    say(`${file.name} is larger than ${Math.round(model.upload_bytes / 1e6)} MB.`, true);
    return;
  }
  take(`/api/image?name=${encodeURIComponent(file.name)}`, {method: 'POST', body: file});
}

async function ask() {
  if (key === null) { say('Choose an image to begin.'); return; }
  const mine = ++question;
  const before = asking;
  let done;
  asking = new Promise(resolve => { done = resolve; });
  try {
    await before;  // one question at a time
    if (mine === question) await askNow(mine);
  } finally {
    done();
  }
}

async function askNow(mine) {
  say('Finding …');
  const answer = await call(`/api/${key}/ask`, {
    method: 'POST', headers: {'Content-Type': 'application/json'},
    body: JSON.stringify({
      classes: at('classes').value, background: at('background').value,
      threshold: model.threshold === null ? null : Number(at('threshold').value),
      min_score: floor, top: Number(at('top').value) || null,
      background_level: level})});
  if (mine === question) show(answer, mine);
}

function show(answer, number) {
  const tags = (answer.stages.at(-1)?.classes ?? []).filter(one => one.tag);
  at('tags').replaceChildren(...tags.map(
    one => element('span', {textContent: `${one.name} ${one.score.toFixed(2)}`})));
  at('stages').replaceChildren(...answer.stages.map(stage => stageBox(stage, tags, number)));
  at('steps').hidden = model.threshold === null;
  at('masks').hidden = !answer.masks;
  if (answer.masks) {
    at('mask').src = `/api/${key}/masks.jpg?n=${number}`;
    at('legend').replaceChildren(...answer.masks.map(legendEntry));
  }
  const kinds = [...(model.threshold !== null ? ['tags.json', 'tags.csv', 'tags.png'] : []),
    ...(answer.masks ? ['mask.png', 'masks.png', 'masks.json'] : [])];
  at('downloads').replaceChildren('Download:', ...kinds.map(kind => element(
    'a', {href: `/api/${key}/download/${kind}`, textContent: kind, download: ''})));
  at('downloads').hidden = false;
  at('used').textContent = namesUsed(answer);
  at('used').hidden = false;
  say(model.threshold !== null ? count(tags, 'tag') : count(answer.masks, 'mask'));
}

function quoted(name) {
  return name.includes(',') ? `"${name}"` : name;
}

function count(things, noun) {
  return things.length === 1 ? `One ${noun}.` : `${things.length || 'No'} ${noun}s.`;
}

function namesUsed({classes, own_classes: own}) {
  const empty = at('classes').value.trim() === '';
  const which = empty ? 'The field of classes is empty, so the model’s own were looked for'
    : own ? 'Looked for the model’s own classes' : 'Looked for';
  const more = classes.length - MAX_NAMES;
  const shown = classes.slice(0, MAX_NAMES).join(', ') + (more > 0 ? ` and ${more} more` : '');
  return `${which}: ${shown}.`;
}

function legendEntry(one) {
  const swatch = element('span', {className: 'swatch'});
  swatch.style.backgroundColor = `rgb(${one.colour.join(',')})`;
  return element('li', {}, swatch, `${one.name} ${(100 * one.share).toFixed(1)}%`);
}

// The maps are those of the final tags in every step, so that they can be compared.
function stageBox(stage, tags, number) {
  const bars = element('ol', {}, ...stage.classes.map(one => element(
    'li', {className: one.tag ? 'tag' : ''},
    element('span', {textContent: one.name}),
    element('span', {textContent: one.score.toFixed(3)}),
    element('meter', {min: 0, max: 1, value: one.score, title: `score of ${one.name}`}))));
  const box = element('section', {className: 'stage'},
    element('h2', {textContent: stage.step}),
    element('p', {textContent: explanations[stage.step] ?? ''}), bars);
  if (stage.maps) {
    box.append(element('div', {className: 'maps'}, ...tags.slice(0, MAX_MAPS).map(one => {
      const query = new URLSearchParams({step: stage.step, name: one.name, n: number});
      return element('figure', {},
        element('img', {src: `/api/${key}/heat.jpg?${query}`, alt: `Heat map of ${one.name}`}),
        element('figcaption', {textContent: one.name}));
    })));
  }
  return box;
}

let waiting = null;
function slide() {
  at('threshold-value').textContent = Number(at('threshold').value).toFixed(2);
  at('floor-value').textContent = floor === null ? 'above noise' : floor.toFixed(2);
  at('level-value').textContent = level === null ? OWN : level.toFixed(2);
  clearTimeout(waiting);
  if (key !== null) waiting = setTimeout(() => guarded(ask), 150);
}

async function begin() {
  model = await call('/api/model');
  at('model').textContent = `Model: ${model.title}. Everything stays on the machine that serves this page.`;
  for (const id of ['classes', 'background']) at(id).value = model[id].map(quoted).join(', ');
  for (const id of ['threshold-row', 'floor-row', 'top-row']) {
    at(id).hidden = model.threshold === null;
  }
  at('threshold').value = model.threshold ?? 0;
  at('level-row').hidden = !model.has_background;
  at('ask').open = !narrow.matches;
  slide();
  for (let number = 0; number < model.examples; number++) {
    at('examples').append(element('button', {
      type: 'button', title: `Example ${number + 1}`,
      onclick: () => take(`/api/example/${number}`, {method: 'POST'}),
    }, element('img', {src: `/api/example/${number}.jpg`, alt: `Example ${number + 1}`})));
  }
  at('file').addEventListener('change', () => {
    upload(at('file').files[0]);
    at('file').value = '';  // the same file may be chosen again
  });
  at('go').addEventListener('click', () => { bringIntoView(); guarded(ask); });
  at('classes').addEventListener('keydown', event => {
    if (event.key === 'Enter' && event.ctrlKey) guarded(ask);
  });
  at('level').addEventListener('input', () => { level = Number(at('level').value); });
  at('floor').addEventListener('input', () => { floor = Number(at('floor').value); });
  for (const id of ['threshold', 'floor', 'top', 'level']) at(id).addEventListener('input', slide);
  for (const kind of ['dragover', 'dragleave', 'drop']) {
    document.addEventListener(kind, event => {
      event.preventDefault();
      at('drop').classList.toggle('over', kind === 'dragover');
      if (kind === 'drop') upload(event.dataTransfer.files[0]);
    });
  }
}

guarded(begin);
