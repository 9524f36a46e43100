// The canvas with a picture, masks and prompts; beside it the list of objects and the candidates. canvas.py says what the
// messages hold. The page or widget that runs this gives to `clickCanvas`
//
//   element       holds a div of class sk-surface, and sk-objects or sk-candidates where `settings` names no other place
//   props, watch  .value: the latest scene; watch('value', act) calls act when it changes
//   trigger       trigger(name, data) tells what happened: pick, rename, drop, merge, choose; answered: what `answer.page` holds is
//                 in window.sam2kit[settings.name]; measure: the server wants to be asked how long tracking takes
//   server        ask_server(request) and preview_server(request), promises of answers
//   settings      {name, title, keys, height, below, objects, candidates, masks}, see components.py; a widget adds
//                 {within, around, gone}: the element whose keys it takes, where the keys' buttons are, a signal that aborts with the view

// ---- the list of objects: rows to pick, rename and remove -----------------------------------------------------------
// A row stays the same element as long as there is its object: an answer may arrive while a name is being written.

function objectList(list, trigger) {
  const count = document.createElement('div');
  const noun = list.dataset.noun || 'object';
  list.setAttribute('role', 'listbox');
  list.setAttribute('aria-label', `${noun[0].toUpperCase()}${noun.slice(1)}s`);
  count.className = 'sk-count';
  list.before(count);
  const lines = new Map(); // number -> its row
  let writing = null; // {line, end}: the row whose name is being written
  let scrolledTo = null; // number of the row that was brought into view

  function made(number) {
    const line = document.createElement('div');
    line.className = 'sk-object';
    line.dataset.number = number;
    line.setAttribute('role', 'option');
    line.innerHTML = `<button type="button" class="sk-pick"><img alt=""><span class="sk-words"><span class="sk-name"></span><span class="sk-note"></span></span></button>
      <button type="button" class="sk-merge" title="Merge into the chosen one">⊕</button><button type="button" class="sk-rename" title="Rename">✎</button><button type="button" class="sk-drop" title="Remove">✕</button>`;
    return line;
  }

  function fill(line, o, active) {
    const picture = line.querySelector('img'), note = line.querySelector('.sk-note');
    line.setAttribute('aria-selected', String(active));
    if (o.colour) line.style.setProperty('--sk-colour', o.colour); else line.style.removeProperty('--sk-colour');
    line.querySelector('.sk-name').textContent = o.name;
    note.textContent = o.note;
    note.title = o.tooltip || '';
    line.querySelector('.sk-rename').setAttribute('aria-label', `Rename ${o.name}`);
    const merge = line.querySelector('.sk-merge');
    merge.hidden = active || !o.colour || noun !== 'object';
    merge.setAttribute('aria-label', `Merge ${o.name} into the chosen one`);
    line.querySelector('.sk-drop').setAttribute('aria-label', `Remove ${o.name}`);
    picture.style.visibility = o.picture ? '' : 'hidden';
    if (o.picture && picture.src !== o.picture) picture.src = o.picture;
  }

  function show(rows, active) {
    const there = new Set(rows.map((o) => o.number));
    for (const [number, line] of lines) if (!there.has(number)) forget(number, line);
    rows.forEach((o, i) => {
      if (!lines.has(o.number)) lines.set(o.number, made(o.number));
      const line = lines.get(o.number);
      fill(line, o, o.number === active);
      if (list.children[i] !== line) list.insertBefore(line, list.children[i] || null);
    });
    count.textContent = rows.length > 1 ? `${rows.length} ${noun}s` : '';
    if (active !== scrolledTo && lines.has(active)) list.scrollTop = clampScroll(lines.get(active));
    scrolledTo = active;
  }

  function forget(number, line) {
    if (writing && writing.line === line) writing.end(false);
    line.remove();
    lines.delete(number);
  }

  function clampScroll(line) {
    // as far as needed, so that the chosen row is seen; the page itself does not move
    const over = line.offsetTop + line.offsetHeight - list.clientHeight;
    return Math.min(Math.max(list.scrollTop, over), line.offsetTop);
  }

  function rename(line) {
    if (writing) writing.end(true);
    const shown = line.querySelector('.sk-name'), before = shown.textContent, input = document.createElement('input');
    input.value = before;
    input.maxLength = 40;
    input.setAttribute('aria-label', `Name of the ${noun}`);
    line.classList.add('sk-writing');
    line.querySelector('.sk-pick').after(input);
    input.focus();
    input.select();
    const end = (keep) => {
      if (!writing || writing.line !== line) return;
      writing = null;
      const name = input.value;
      line.classList.remove('sk-writing');
      input.remove();
      if (!keep || name === before) return;
      shown.textContent = name; // the list that follows has it, or the old one if it was refused
      trigger('rename', { number: Number(line.dataset.number), name });
    };
    writing = { line, end };
    input.addEventListener('blur', () => end(true));
    for (const kind of ['keydown', 'keyup']) input.addEventListener(kind, (e) => e.stopPropagation()); // no shortcuts
    input.addEventListener('keydown', (e) => {
      if (e.isComposing) return;
      if (e.key === 'Enter') end(true);
      if (e.key === 'Escape') end(false);
    });
  }

  list.addEventListener('click', (e) => {
    const line = e.target.closest('.sk-object');
    if (!line || e.target.closest('input')) return;
    const number = Number(line.dataset.number);
    if (e.target.closest('.sk-drop')) trigger('drop', { number });
    else if (e.target.closest('.sk-merge')) trigger('merge', { number });
    else if (e.target.closest('.sk-rename')) rename(line);
    else trigger('pick', { number });
  });
  list.addEventListener('dblclick', (e) => { if (e.target.closest('.sk-name')) rename(e.target.closest('.sk-object')); });

  return show;
}

function standaloneList(element, props, trigger, watch) {
  // a list without a canvas, such as one of photos
  const show = objectList(element.querySelector('.sk-objects'), trigger);
  const update = () => { const { rows, active } = props.value || { rows: [], active: null }; show(rows, active); };
  watch('value', update);
  update();
}

// ---- the candidates of an ambiguous click: the pointer on one shows its mask, a click chooses it --------------------

function candidatePictures(box, trigger, offer) {
  box.setAttribute('role', 'radiogroup');
  box.setAttribute('aria-label', 'Which mask did you mean?');
  let given = { rows: [] }, owner = null;

  function choice(row, i) {
    const button = document.createElement('button'), picture = document.createElement('img'), words = document.createElement('span');
    button.type = 'button';
    button.dataset.candidate = i;
    button.setAttribute('role', 'radio');
    button.setAttribute('aria-checked', String(i === given.chosen));
    button.title = `Candidate ${i + 1} (key ${i + 1}): ${row.tooltip}`;
    picture.src = row.picture;
    picture.alt = `Candidate ${i + 1}`;
    words.textContent = row.note;
    button.append(picture, words);
    for (const [event, mask] of [['pointerenter', row.mask], ['focus', row.mask], ['pointerleave', null], ['blur', null]])
      button.addEventListener(event, () => offer(mask));
    return button;
  }

  function show(candidates, of) {
    const before = given, masks = (some) => some.rows.map((row) => row.mask).join(), same = owner === of;
    given = candidates || { rows: [] };
    owner = of;
    box.hidden = !given.rows.length;
    if (same && masks(before) === masks(given)) { // another is chosen
      [...box.children].forEach((button, i) => button.setAttribute('aria-checked', String(i === given.chosen)));
      return;
    }
    offer(null);
    box.replaceChildren(...given.rows.map(choice));
  }

  box.addEventListener('click', (e) => {
    const button = e.target.closest('[data-candidate]');
    if (button) trigger('choose', { candidate: Number(button.dataset.candidate) });
  });

  return show;
}

// ---- the canvas ----------------------------------------------------------------------------------------------------

function clickCanvas(element, props, server, trigger, watch, settings) {
  const root = element.querySelector('.sk-surface');
  root.innerHTML = `
    <div class="sk-bar" role="toolbar" aria-label="${settings.title}">
      <span class="sk-modes" role="radiogroup" aria-label="A click will">
        <button type="button" role="radio" data-mode="add" title="A click adds to the mask (A)">+ Add</button>
        <button type="button" role="radio" data-mode="remove" title="A click takes away from the mask (R)">− Remove</button>
        <button type="button" role="radio" data-mode="brush" title="Paint the mask (B)">Brush</button>
        <button type="button" role="radio" data-mode="eraser" title="Take away from the mask what is painted over (E)">Eraser</button>
        <button type="button" role="radio" data-mode="pick" title="Choose the object that is clicked (P)">Pick</button>
      </span>
      <input type="range" class="sk-width" min="2" max="60" value="14" title="Width of the brush ([ and ])" aria-label="Width of the brush">
      <span class="sk-active" aria-live="polite"></span>
      <span class="sk-zoom">
        <button type="button" data-do="hide" title="Hide or show masks (H)" aria-label="Hide or show masks" aria-pressed="false">◐</button>
        <button type="button" data-do="out" title="Smaller (-)" aria-label="Zoom out">−</button>
        <button type="button" data-do="fit" title="The whole picture (0)" aria-label="Show the whole picture">1×</button>
        <button type="button" data-do="in" title="Larger (+)" aria-label="Zoom in">+</button>
        <button type="button" data-do="help" title="Gestures and keys (?)" aria-label="Gestures and keys" aria-expanded="false">?</button>
      </span>
    </div>
    <div class="sk-stage"><canvas tabindex="0" role="application" aria-label="${settings.title}"></canvas></div>
    <div class="sk-says"><span class="sk-hint"></span><span class="sk-busy" role="status" aria-live="polite"></span></div>
    <dialog class="sk-help" aria-label="Gestures and keys"></dialog>`;
  const canvas = root.querySelector('canvas'), stage = root.querySelector('.sk-stage'), pen = canvas.getContext('2d');
  const part = (name) => root.querySelector('.sk-' + name);
  const parts = {}; // beside the canvas: name -> {place, show}

  // ---- state ---------------------------------------------------------------------------------------------------------

  const REACH = 10; // pixels of the page within which a point is hit
  const DRAG = 5; // pixels of the page from which a click is a drag
  const STILL = 110; // milliseconds after which a resting pointer asks for a preview
  const MAX_ZOOM = 40;
  const MAX_RADIUS = 1000; // of the brush, pixels of the picture
  let scene = null; // the latest message of the server
  let picture = null; // its Image
  let objects = new Map(); // number -> {name, colour, note, tooltip, picture, layer: a coloured canvas or null}
  let candidates = null; // of the active object
  let points = [], box = null; // of the active object, as the visitor sees them
  let settled = { points: [], box: null }; // the same, as the server knows them
  let tool = 'add'; // what a click or a stroke does: add, remove, brush, eraser, pick
  let mode = 1; // the label that a plain click or stroke gives
  let strokes = []; // not answered yet: {of: scene and object, stroke: {path, radius, adds}}; a later request overtakes, and has them
  let sequence = Date.now(), answered = sequence; // of the latest request and answer; a surface that is mounted anew goes on
  let coming = null; // the scene that is being unpacked
  let newest = null; // the latest answer: {version, scene, number, object, points, box, candidates}
  let hidden = false; // masks are
  let zoom = 1, left = 0, top_ = 0; // of the picture within the canvas, pixels of the page
  let pointer = null; // where it hovers: {x, y, shift, touch}
  let preview = null; // the mask that a click would give
  let offered = null, offers = 0; // the candidate under the pointer: its layer; how many there were
  let previewing = 0, resting = null; // number of the latest preview; a timer

  const active = () => objects.get(scene.active) || { name: '' };
  const scale = () => (zoom * canvas.clientWidth) / scene.size[0]; // pixels of the page for one of the picture
  const toPicture = (x, y) => [(x - left) / scale() - 0.5, (y - top_) / scale() - 0.5];
  const toPage = (x, y) => [left + (x + 0.5) * scale(), top_ + (y + 0.5) * scale()];
  const clamp = (v, low, high) => Math.min(Math.max(v, low), high);

  async function coloured(png, colour, solid) {
    // a 1-bit PNG as a canvas: filled in the object's colour, with an outline of full strength
    if (!png) return null;
    const bytes = Uint8Array.from(atob(png), (c) => c.charCodeAt(0));
    const bits = await createImageBitmap(new Blob([bytes], { type: 'image/png' }));
    const layer = new OffscreenCanvas(bits.width, bits.height), paint = layer.getContext('2d');
    paint.drawImage(bits, 0, 0);
    const data = paint.getImageData(0, 0, bits.width, bits.height), w = bits.width;
    const pixels = new Uint32Array(data.data.buffer), on = new Uint8Array(pixels.length);
    layer.area = 0;
    for (let i = 0; i < pixels.length; i++) layer.area += on[i] = pixels[i] & 1;
    const [r, g, b] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    const rgb = (b << 16) | (g << 8) | r, fill = ((solid << 24) | rgb) >>> 0, line = ((255 << 24) | rgb) >>> 0;
    for (let i = 0; i < pixels.length; i++) {
      const inner = on[i] && on[i - 1] && on[i + 1] && on[i - w] && on[i + w];
      pixels[i] = on[i] ? (inner ? fill : line) : 0;
    }
    paint.putImageData(data, 0, 0);
    return layer;
  }

  async function take(message) {
    // a new scene from the server; all of it is shown at once, or a click would mix two of them
    if (!message || !message.picture || (scene && message.version < scene.version)) return;
    coming = message;
    let next = picture;
    if (!picture || picture.src !== message.picture) {
      next = new Image();
      next.src = message.picture;
      await next.decode();
    }
    const layers = await Promise.all(message.objects.map((o) => coloured(o.mask, o.colour, 118)));
    if (coming !== message) return; // a newer one came meanwhile
    const sameSize = picture && message.size.join() === root.dataset.size;
    if (scene && message.scene !== scene.scene) { offered = null; offers++; }
    scene = message; picture = next; preview = null; previewing++;
    objects = new Map(message.objects.map((o, i) => [o.number, { ...o, layer: layers[i] }]));
    points = message.points; box = message.box; settled = { points, box }; candidates = message.candidates;
    if (newest && newest.version > message.version && newest.scene === message.scene) settle(); // it was made before that answer
    root.dataset.size = scene.size.join();
    if (!sameSize) fit();
    size();
    part('active').textContent = active().name;
    root.dataset.scene = scene.scene;
    root.dataset.points = points.length;
    root.dataset.shown = Number(root.dataset.shown || 0) + 1;
    hint();
    beside();
  }

  function beside(tries = 40) {
    // the list of objects and the candidates, wherever the page has them; they may come to it later than the canvas
    const missing = [['objects', objectList], ['candidates', candidatePictures]].filter(([name, make]) => {
      const place = settings[name] ? document.querySelector(settings[name]) : element.querySelector('.sk-' + name);
      if (place && (!parts[name] || parts[name].place !== place)) parts[name] = { place, show: make(place, trigger, offer) };
      return settings[name] && !place;
    });
    if (parts.objects) parts.objects.show([...objects.values()], scene.active);
    if (parts.candidates) parts.candidates.show(candidates, scene.scene + ' ' + scene.active);
    if (missing.length && tries && root.isConnected) setTimeout(() => beside(tries - 1), 100);
  }

  function settle() {
    // the newest answer becomes what is known
    objects.set(newest.number, newest.object);
    if (scene.active === newest.number) { settled = { points: newest.points, box: newest.box }; candidates = newest.candidates; }
    ({ points, box } = settled);
  }

  async function send(nextPoints, nextBox, stroke = null) {
    // the whole prompt list of the active object, or a stroke; what the visitor did is shown at once, the mask when it comes
    const began = performance.now(), mine = ++sequence;
    const of = `${scene.scene} ${scene.active}`;
    if (stroke) strokes.push({ of, stroke });
    const carried = strokes.filter((one) => one.of === of);
    points = nextPoints; box = nextBox; preview = offered = null; offers++;
    busy('Segmenting …');
    draw();
    let answer;
    try {
      answer = await server.ask_server({ ...request(mine, nextPoints, nextBox), strokes: carried.map((one) => one.stroke) });
      if (answer.object) answer.object.layer = await coloured(answer.object.mask, answer.object.colour, 118);
    } catch (error) {
      answer = { refused: true, says: 'The server did not answer; try again, or reload the page.' };
    }
    const last = mine === sequence, o = answer.object;
    if (last) busy('');
    strokes = last ? [] : strokes.filter((one) => answer.stale || !carried.includes(one));
    if (o && (!newest || answer.version > newest.version)) {
      newest = {
        version: answer.version, scene: answer.scene, number: o.number, points: answer.points, box: answer.box,
        object: o, candidates: answer.candidates,
      };
      if (answer.scene === scene.scene && answer.version > scene.version) {
        const wanted = { points, box }; // of a request that is still under way
        settle();
        if (!last) ({ points, box } = wanted);
        beside();
      }
    }
    if (!last) return draw(); // overtaken: another answer follows
    if (o) hint();
    else {
      ({ points, box } = settled);
      say(answer.says || 'That came too late; try again.');
    }
    draw();
    await new Promise(requestAnimationFrame);
    answered = mine;
    root.dataset.points = points.length;
    root.dataset.took = performance.now() - began;
    root.dataset.answered = answered;
    if (o && answer.page) { window.sam2kit = { ...window.sam2kit, [settings.name]: answer.page }; trigger('answered'); }
    if (o && answer.measure) trigger('measure');
  }

  const request = (number, p, b) => ({
    key: scene.key, scene: scene.scene, sequence: number, number: scene.active, points: p, box: b,
  });

  async function ask_preview() {
    if (!pointer || pointer.touch || !scene.editable || sequence !== answered || !clicks() || hit()) return;
    const mine = ++previewing, now = sequence;
    const [x, y] = toPicture(pointer.x, pointer.y);
    if (x < 0 || y < 0 || x > scene.size[0] - 1 || y > scene.size[1] - 1) return;
    const answer = await server.preview_server(request(mine, [...points, [x, y, label()]], box)).catch(() => null);
    if (!answer || !answer.object) return;
    const layer = await coloured(answer.object.mask, '#ffffff', 70);
    if (mine !== previewing || now !== sequence || !pointer) return; // the pointer moved, or another picture came
    preview = layer;
    root.dataset.previews = Number(root.dataset.previews || 0) + 1;
    draw();
  }

  async function offer(mask) {
    // a candidate takes the place of the active object's mask as long as the pointer is on it; null: it has left
    const mine = ++offers, layer = mask ? await coloured(mask, active().colour, 118) : null;
    if (mine !== offers) return; // another one, or another picture, came meanwhile
    offered = layer;
    root.dataset.offered = offered ? 'yes' : 'no';
    draw();
  }

  // ---- drawing -------------------------------------------------------------------------------------------------------

  let drawing = false;
  function draw() {
    if (drawing) return;
    drawing = true;
    requestAnimationFrame(() => { drawing = false; paint(); });
  }

  function paint() {
    if (!picture) return;
    const sharp = window.devicePixelRatio || 1, s = scale(), w = scene.size[0] * s, h = scene.size[1] * s;
    pen.setTransform(sharp, 0, 0, sharp, 0, 0);
    pen.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
    pen.imageSmoothingEnabled = s < 3;
    pen.drawImage(picture, left, top_, w, h);
    if (!hidden) for (const [number, o] of objects) {
      const layer = offered && number === scene.active ? offered : o.layer;
      if (layer) pen.drawImage(layer, left, top_, w, h);
    }
    if (preview && !hidden) pen.drawImage(preview, left, top_, w, h);
    const drawn = drag && drag.box ? [...drag.from, ...drag.to] : box;
    if (drawn) frame(drawn, !(drag && drag.box));
    for (const [x, y, l] of points) dot(...toPage(x, y), l, 7);
    for (const one of [...strokes.map((sent) => sent.stroke), drag && drag.stroke]) if (one) brushed(one);
    if (pointer && !pointer.touch && scene.editable && !(drag && clicks())) cursor();
  }

  function brushed({ path, radius, adds }) {
    // a stroke as it will be: in the object's colour, or white where it erases
    pen.save();
    pen.globalAlpha = 0.55; pen.lineCap = pen.lineJoin = 'round';
    pen.strokeStyle = (adds && active().colour) || '#ffffff'; pen.lineWidth = 2 * radius * scale();
    pen.beginPath();
    pen.moveTo(...toPage(...path[0]));
    for (const [x, y] of path) pen.lineTo(...toPage(x + 0.01, y));
    pen.stroke();
    pen.restore();
  }

  function frame([x0, y0, x1, y1], handle) {
    const [ax, ay] = toPage(x0, y0), [bx, by] = toPage(x1, y1);
    for (const [colour, width] of [['#141414', 4], ['#ffffff', 2]]) {
      pen.strokeStyle = colour; pen.lineWidth = width;
      pen.strokeRect(ax, ay, bx - ax, by - ay);
    }
    if (handle) cross(Math.max(ax, bx), Math.min(ay, by), 7);
  }

  function disc(x, y, r, colour) {
    pen.beginPath(); pen.arc(x, y, r + 2, 0, 7); pen.fillStyle = '#ffffff'; pen.fill();
    pen.beginPath(); pen.arc(x, y, r, 0, 7); pen.fillStyle = colour; pen.fill();
  }

  function stroke(...lines) {
    pen.strokeStyle = '#ffffff'; pen.lineWidth = 2; pen.beginPath();
    for (const [x0, y0, x1, y1] of lines) { pen.moveTo(x0, y0); pen.lineTo(x1, y1); }
    pen.stroke();
  }

  function dot(x, y, l, r) {
    disc(x, y, r, l ? '#00994d' : '#dc2828');
    stroke([x - r / 2, y, x + r / 2, y], ...(l ? [[x, y - r / 2, x, y + r / 2]] : []));
  }

  function cross(x, y, r) {
    disc(x, y, r, '#141414');
    const a = r / 2;
    stroke([x - a, y - a, x + a, y + a], [x - a, y + a, x + a, y - a]);
  }

  function cursor() {
    // beside the pointer, what a click would do: a sign for add, remove or delete; or how large the brush is
    if (tool === 'pick') return;
    if (!clicks()) {
      for (const [colour, width] of [['#141414', 3], ['#ffffff', 1.5]]) {
        pen.beginPath(); pen.arc(pointer.x, pointer.y, radius(), 0, 7);
        pen.strokeStyle = colour; pen.lineWidth = width; pen.stroke();
      }
      return;
    }
    const at = [pointer.x + 15, pointer.y + 15];
    if (hit()) cross(...at, 6); else dot(...at, label(), 6);
  }

  function size() {
    // as wide as the column and no higher than most of the window
    if (!picture || !stage.clientWidth) return; // another tab is shown
    const [w, h] = scene.size, beside = settings.below && window.innerWidth > 700; // on a phone, people scroll
    const left_over = window.innerHeight - (beside ? stage.getBoundingClientRect().top + window.scrollY + settings.below : 0);
    const most = Math.max(220, Math.min(window.innerHeight * settings.height, left_over));
    const width = Math.max(1, Math.min(stage.clientWidth, (most * w) / h));
    const sharp = window.devicePixelRatio || 1, before = canvas.clientWidth;
    canvas.style.width = width + 'px';
    canvas.style.height = (width * h) / w + 'px';
    canvas.width = Math.round(width * sharp);
    canvas.height = Math.round(((width * h) / w) * sharp);
    if (before) { left *= width / before; top_ *= width / before; }
    stay();
    draw();
  }

  function fit() { zoom = 1; stay(); draw(); }

  function stay() {
    // the picture covers the canvas at any zoom
    left = clamp(left, canvas.clientWidth * (1 - zoom), 0);
    top_ = clamp(top_, canvas.clientHeight * (1 - zoom), 0);
    root.dataset.zoom = zoom.toFixed(2);
  }

  function zoomTo(next, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
    const before = zoom;
    zoom = clamp(next, 1, MAX_ZOOM);
    left = x - ((x - left) * zoom) / before;
    top_ = y - ((y - top_) * zoom) / before;
    stay(); preview = null;
    draw();
  }

  // ---- gestures ------------------------------------------------------------------------------------------------------

  let drag = null; // {id, x, y, button, box, from, to}
  const fingers = new Map(); // id -> [x, y]
  let pinch = null; // {distance, middle}

  const place = (e) => { const r = canvas.getBoundingClientRect(); return [e.clientX - r.left, e.clientY - r.top]; };
  const label = () => (pointer && pointer.shift ? 1 - mode : mode);
  const clicks = () => tool === 'add' || tool === 'remove';
  const radius = () => Number(part('width').value); // of the brush, pixels of the page

  function hit(at = pointer) {
    // what lies under the pointer: {point: index}, {box: true} or null
    if (!at || !scene || !clicks()) return null;
    const near = ([x, y]) => Math.hypot(at.x - x, at.y - y) <= (at.touch ? 2 * REACH : REACH);
    for (let i = points.length - 1; i >= 0; i--) if (near(toPage(points[i][0], points[i][1]))) return { point: i };
    if (box && near(toPage(Math.max(box[0], box[2]), Math.min(box[1], box[3])))) return { box: true };
    return null;
  }

  function pick(at, merges) {
    // choose the object that is seen there, of several the smallest; or merge it into the chosen one
    const [w, h] = scene.size, [x, y] = toPicture(at.x, at.y);
    const has = ({ layer }) => layer && layer.getContext('2d')
      .getImageData(Math.floor(((x + 0.5) * layer.width) / w), Math.floor(((y + 0.5) * layer.height) / h), 1, 1).data[3];
    const others = [...objects].filter(([number, o]) => (!merges || number !== scene.active) && has(o));
    const [found] = others.sort((a, b) => a[1].layer.area - b[1].layer.area);
    if (!found) return say('No object is seen there.');
    trigger(merges ? 'merge' : 'pick', { number: found[0] });
  }

  function paintTo([x, y]) {
    // the stroke goes on; places closer than a pixel of the page are one, and of very many each second goes
    const { path } = drag.stroke, [lastX, lastY] = path[path.length - 1] || [NaN, NaN];
    if (!(Math.hypot(x - lastX, y - lastY) * scale() < 1)) path.push([x, y]);
    if (path.length > 1500) drag.stroke.path = path.filter((_, i) => i % 2 === 0 || i === path.length - 1);
  }

  function click(at, l) {
    if (!scene.editable) return say('Wait until tracking has ended, or press Stop.');
    const under = hit(at);
    if (under && under.box) return send(points, null);
    if (under) return send(points.filter((_, i) => i !== under.point), box);
    const [x, y] = toPicture(at.x, at.y);
    return send([...points, [clamp(x, 0, scene.size[0] - 1), clamp(y, 0, scene.size[1] - 1), l]], box);
  }

  canvas.addEventListener('pointerdown', (e) => {
    if (!picture) return;
    e.preventDefault();
    canvas.focus({ preventScroll: true });
    try { canvas.setPointerCapture(e.pointerId); } catch (error) { /* a pointer made by a script */ }
    const [x, y] = place(e);
    if (e.pointerType === 'touch') fingers.set(e.pointerId, [x, y]);
    if (fingers.size === 2) { drag = null; pinch = spread(); return; }
    if (fingers.size > 2) return;
    const shift = e.shiftKey;
    pointer = { x, y, shift, touch: e.pointerType === 'touch' };
    drag = { id: e.pointerId, x, y, button: e.button, box: false, moved: false, shift };
    if (clicks() || tool === 'pick' || e.button === 1) return;
    if (!scene.editable) return say('Wait until tracking has ended, or press Stop.');
    drag.stroke = { path: [], radius: Math.min(radius() / scale(), MAX_RADIUS), adds: (e.button === 2 ? 0 : label()) === 1 };
    paintTo(toPicture(x, y));
    draw();
  });

  canvas.addEventListener('pointermove', (e) => {
    if (!picture) return;
    const [x, y] = place(e);
    if (fingers.has(e.pointerId)) fingers.set(e.pointerId, [x, y]);
    if (pinch && fingers.size === 2) return pinching();
    pointer = { x, y, shift: e.shiftKey, touch: e.pointerType === 'touch' };
    clearTimeout(resting);
    if (drag && drag.id === e.pointerId) {
      drag.moved = drag.moved || Math.hypot(x - drag.x, y - drag.y) > DRAG;
      if (drag.stroke) paintTo(toPicture(x, y));
      else if (drag.moved && drag.button === 0 && clicks()) {
        drag.box = scene.editable;
        drag.from = drag.from || toPicture(drag.x, drag.y); drag.to = toPicture(x, y);
      } else if (drag.moved) {
        left += x - (drag.lastX ?? drag.x); top_ += y - (drag.lastY ?? drag.y); stay();
      }
      drag.lastX = x; drag.lastY = y;
    } else {
      previewing++; // an answer about the old place is no longer wanted
      resting = setTimeout(ask_preview, STILL);
    }
    canvas.style.cursor = hit() || tool === 'pick' ? 'pointer' : 'crosshair';
    hint();
    draw();
  });

  canvas.addEventListener('pointerup', (e) => {
    fingers.delete(e.pointerId);
    if (pinch) { if (!fingers.size) pinch = null; return; }
    if (!drag || drag.id !== e.pointerId) return;
    const done = drag;
    drag = null;
    if (done.stroke) return send([], null, done.stroke);
    if (done.box) {
      const [w, h] = scene.size, inside = ([x, y]) => [clamp(x, 0, w - 1), clamp(y, 0, h - 1)];
      const [x0, y0] = inside(done.from), [x1, y1] = inside(done.to);
      return send(points, [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)]);
    }
    if (done.moved || done.button === 1) return;
    if (tool === 'pick') return pick(done, done.button === 2 || done.shift);
    const other = done.button === 2 || done.shift;
    click({ x: done.x, y: done.y, touch: e.pointerType === 'touch' }, done.button === 2 ? 0 : other ? 1 - mode : mode);
    if (e.pointerType === 'touch') pointer = null;
  });

  for (const end of ['pointercancel', 'lostpointercapture'])
    canvas.addEventListener(end, (e) => { fingers.delete(e.pointerId); if (end === 'pointercancel') drag = pinch = null; });
  canvas.addEventListener('pointerleave', () => { if (!drag) { pointer = preview = null; previewing++; hint(); draw(); } });
  canvas.addEventListener('contextmenu', (e) => e.preventDefault());
  canvas.addEventListener('wheel', (e) => {
    if (!picture) return;
    e.preventDefault();
    zoomTo(zoom * Math.exp(-e.deltaY * (e.deltaMode ? 0.05 : 0.0016)), ...place(e));
  }, { passive: false });

  canvas.addEventListener('dragover', (e) => { if (settings.masks && document.querySelector(settings.masks)) e.preventDefault(); });
  canvas.addEventListener('drop', (e) => {
    // a picture file with masks goes the way of the button that takes such files, whose input stands before it
    const input = settings.masks && document.querySelector(settings.masks)?.previousElementSibling;
    if (!input || !e.dataTransfer.files.length) return;
    e.preventDefault();
    e.stopPropagation();
    input.files = e.dataTransfer.files;
    input.dispatchEvent(new Event('change', { bubbles: true }));
  });

  function spread() {
    const [[ax, ay], [bx, by]] = [...fingers.values()];
    return { distance: Math.max(Math.hypot(ax - bx, ay - by), 1), middle: [(ax + bx) / 2, (ay + by) / 2] };
  }

  function pinching() {
    const now = spread();
    left += now.middle[0] - pinch.middle[0]; top_ += now.middle[1] - pinch.middle[1];
    zoomTo((zoom * now.distance) / pinch.distance, ...now.middle);
    pinch = now;
  }

  // ---- words, buttons, keys ------------------------------------------------------------------------------------------

  function busy(text) { part('busy').textContent = text; root.dataset.busy = text ? 'yes' : 'no'; }
  function say(text) { const h = part('hint'); h.textContent = text; h.classList.add('sk-problem'); }

  function hint() {
    const h = part('hint'), under = hit(), name = active().name;
    h.classList.remove('sk-problem');
    if (!scene) return;
    const others = { brush: [`Drag: paint ${name}`, 'erase'], eraser: [`Drag: erase ${name}`, 'paint'], pick: ['Click: choose an object', `merge it into ${name}`] }[tool];
    if (!scene.editable) h.textContent = 'Tracking is running; Stop ends it.';
    else if (others && matchMedia('(pointer: coarse)').matches) h.textContent = others[0];
    else if (tool === 'pick') h.textContent = `${others[0]} · shift-click: ${others[1]} · Del: remove ${name}`;
    else if (others) h.textContent = `${others[0]} · shift-drag: ${others[1]} · [ and ]: width`;
    else if (under) h.textContent = under.box ? 'Click: take the box away' : 'Click: take this point away';
    else {
      const verbs = [`take away from ${name}`, `add to ${name}`];
      const others = mode ? `shift or right click: ${verbs[0]}` : `shift-click: ${verbs[1]}`;
      if (matchMedia('(pointer: coarse)').matches) h.textContent = `Tap: ${verbs[mode]} · drag: box · two fingers: zoom`;
      else h.textContent = `Click: ${verbs[label()]}` + (pointer && pointer.shift ? '' : ` · ${others} · drag: box`);
    }
  }

  function setTool(next) {
    tool = next;
    mode = Number(tool === 'add' || tool === 'brush');
    for (const b of root.querySelectorAll('[data-mode]')) b.setAttribute('aria-checked', String(b.dataset.mode === tool));
    part('width').hidden = clicks() || tool === 'pick';
    preview = null; previewing++;
    if (scene) hint();
    draw();
  }

  const GESTURES = [['click', 'add to the mask'], ['right click, shift-click', 'remove from the mask'], ['click on a point', 'delete it'],
    ['drag', 'box'], ['wheel, pinch', 'zoom'], ['middle drag, two fingers', 'move'], ['a, r', 'a click adds, removes'],
    ['b, e', 'brush, eraser'], ['[, ]', 'narrower, wider brush'], ['p', 'pick objects; shift-click merges'], ['Del', 'remove the object'],
    ['+, −, 0', 'zoom in, out, whole picture'], ['h', 'hide or show masks'], ['?', 'this help']];
  const KEY_NAMES = { ' ': 'space', ArrowLeft: '←', ArrowRight: '→' };
  const actions = {
    hide() { hidden = !hidden; root.querySelector('[data-do=hide]').setAttribute('aria-pressed', String(hidden)); draw(); },
    out() { zoomTo(zoom / 1.5); }, in() { zoomTo(zoom * 1.5); }, fit,
    help() {
      // above everything else on the page, wherever it is scrolled to; Escape closes it
      const help = part('help');
      if (help.open) return help.close();
      const keyed = Object.entries(settings.keys).map(([key, [where, text]]) => [KEY_NAMES[key] || key, text]);
      const rows = [...GESTURES, ...keyed].map(([what, text]) => `<dt>${what}</dt><dd>${text}</dd>`);
      help.innerHTML = `<button type="button" data-do="help" aria-label="Close">✕</button><dl>${rows.join('')}</dl>`;
      help.showModal();
      root.querySelector('.sk-zoom [data-do=help]').setAttribute('aria-expanded', 'true');
    },
  };
  part('help').addEventListener('close', () => root.querySelector('.sk-zoom [data-do=help]').setAttribute('aria-expanded', 'false'));
  part('help').addEventListener('click', (e) => { if (e.target === part('help')) part('help').close(); }); // beside its content
  root.addEventListener('click', (e) => {
    const button = e.target.closest('button');
    if (!button) return;
    if (button.dataset.mode) setTool(button.dataset.mode);
    if (button.dataset.do) actions[button.dataset.do]();
  });

  const wider = (by) => { part('width').value = radius() * by; draw(); };
  const tools = { a: 'add', r: 'remove', b: 'brush', e: 'eraser', p: 'pick' };
  const keys = { ...Object.fromEntries(Object.entries(tools).map(([key, name]) => [key, () => setTool(name)])),
    '[': () => wider(1 / 1.3), ']': () => wider(1.3), Delete: () => trigger('drop', { number: scene.active }), '+': actions.in, '=': actions.in, '-': actions.out, 0: fit, h: actions.hide, '?': actions.help };
  function onKey(e) {
    const writing = e.target.matches && e.target.matches('textarea, select, [contenteditable], input:not([type=radio]):not([type=checkbox]):not([type=range])');
    const press = e.target.closest && e.target.closest('button, input, a') && (e.key === ' ' || e.key.startsWith('Arrow'));
    if (!root.offsetParent || writing || press || e.altKey || !picture) return;
    if (part('help').open && e.key !== '?') return;
    const undo = (e.ctrlKey || e.metaKey) && e.key.toLowerCase() === 'z';
    if ((e.ctrlKey || e.metaKey) && !undo) return;
    const key = undo ? 'u' : e.key.length === 1 ? e.key.toLowerCase() : e.key;
    if (key === 'Shift' && pointer) { pointer.shift = true; hint(); draw(); return; }
    const [where] = settings.keys[key] || [];
    if (!keys[key] && !where) return;
    e.preventDefault();
    e.stopPropagation();
    if (keys[key]) return keys[key]();
    const around = settings.around ? settings.around() : document; // where buttons are
    const button = [...around.querySelectorAll(where)].find((b) => b.offsetParent && !b.disabled);
    if (button) button.click();
  }
  // listeners of the whole page go when the surface does: the app mounts it anew with each picture after an empty page. A
  // notebook takes it off the page while it is scrolled away, and says itself when it is gone
  const within = settings.within || document; // where keys are for the surface
  const leaving = new AbortController();
  const whilePresent = (act) => (e) => (settings.gone || root.isConnected ? act(e) : leaving.abort());
  const global = { signal: settings.gone || leaving.signal };
  within.addEventListener('keydown', whilePresent(onKey), global);
  within.addEventListener('keyup', whilePresent((e) => {
    if (e.key === 'Shift' && pointer) { pointer.shift = false; hint(); draw(); }
  }), global);
  window.addEventListener('resize', whilePresent(size), global);
  new ResizeObserver(size).observe(stage);

  setTool('add');
  busy('');
  watch('value', () => take(props.value));
  take(props.value);
}
