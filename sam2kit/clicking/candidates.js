// The candidates of an ambiguous click, as small pictures: the pointer on one shows its mask on the click surface, a click
// chooses it. scripts.py says what it is given, object_list.py what it shows.

const box = element.querySelector('.sk-candidates');
box.setAttribute('role', 'radiogroup');
box.setAttribute('aria-label', 'Which mask did you mean?');
let given = { rows: [] };

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

function offer(mask) {
  // the click surface listens: it shows the mask in place of the object's own
  box.dispatchEvent(new CustomEvent('sk-candidate', { bubbles: true, detail: { scene: given.scene, number: given.number, mask } }));
}

function show() {
  const before = given, masks = (of) => of.rows.map((row) => row.mask).join();
  given = props.value || { rows: [] };
  box.hidden = !given.rows.length;
  if (before.scene === given.scene && before.number === given.number && masks(before) === masks(given)) { // another is chosen
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

watch('value', show);
show();
