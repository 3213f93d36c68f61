// The explorer's page in the browser. Bokeh calls this file when utterances were selected, when a row
// of the table was clicked, and when a choice changed or the page is ready. points: the utterances,
// drawn in every map. store: what each run makes of them, by run and map. The other names are the
// page's widgets.
const run = (place) => runs[place].value
const safe = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;")
const kind = () => kinds.value

function draw() {
  maps.forEach((map, place) => {
    for (const axis of ["x", "y"])
      points.data[axis + place] = store.data[`${run(place)}/${projection.value}/${axis}`]
    for (const name of ["own", "other", "nearest"])
      points.data[name + place] = store.data[`${run(place)}/${name}`]
    map.reset.emit()
  })
  paint()
  list()
}

// By speaker, those of the selected utterances have colours; all else as stored.
function paint() {
  const speakers = points.selected.indices.map((i) => points.data.speaker[i])
  const chosen = [...new Set(speakers)].slice(0, palette.length)
  let [colours, text] = [store.data[`colour/${colour.value}`], legends[colour.value]]
  if (colour.value == "speaker" && chosen.length) {
    colours = points.data.speaker.map((name) => palette[chosen.indexOf(name)] ?? missing)
    const dot = (name, n) => `<span style="color: ${palette[n]}">&#9679;</span> ${safe(name)}`
    text = chosen.map(dot).join("&emsp;")
  }
  points.data.colour = colours
  legend.text = text
  points.change.emit()
}

// The rows of the table: of run A (the first map), or right under B (the second) and wrong under A.
function list() {
  const shown = {what: [], numbers: [], first: [], second: []}
  const add = (...row) => Object.keys(shown).forEach((name, place) => shown[name].push(row[place]))
  const all = findings.data
  for (let i = 0; i < all.kind.length; i++) {
    const wanted = all.kind[i] == kind() && all.run[i] == run(0)
    if (wanted && (kind() != "differences" || all.right[i] == run(1)))
      add(all.what[i], all.numbers[i], all.first[i], all.second[i])
  }
  const chosen = points.selected.indices[0]
  for (let n = 0; kind() == "neighbours" && chosen != null && n < n_neighbours; n++) {
    const near = store.data[`${run(0)}/neighbour${n}`][chosen]
    const same = points.data.speaker[near] == points.data.speaker[chosen]
    const what = `${points.data.id[near]}, near ${points.data.id[chosen]}`
    add(what, same ? "the same speaker" : "another speaker", chosen, near)
  }
  rows.selected.indices = []
  rows.data = shown
}

// The players of the utterances to hear first, else of those selected; plays the first two.
function select() {
  const [indices, pair] = points.tags // of the row clicked last, see `find`
  const found = pair && String(indices) == String(points.selected.indices)
  const heard = found ? pair : points.selected.indices.slice(0, 5)
  const player = (i) =>
    `<div><b>${safe(points.data.id[i])}</b>, speaker ${safe(points.data.speaker[i])}<br>` +
    (points.data.sound ? `<audio controls src="${points.data.sound[i]}"></audio></div>` : "</div>")
  players.text = heard.map(player).join("") + hint
  window.heard?.pause()
  if (points.data.sound && heard.length && heard.length <= 2) play(heard)
  paint()
  if (kind() == "neighbours" && !found) list()
}

function play(places) {
  window.heard = new Audio(points.data.sound[places[0]])
  window.heard.onended = () => places.length > 1 && play(places.slice(1))
  window.heard.play().catch(() => {}) // a browser may want a click on the page first
}

function find() {
  const row = rows.selected.indices[0]
  if (row == null) return
  const [first, second] = [rows.data.first[row], rows.data.second[row]]
  const speakers = [first, second].map((i) => points.data.speaker[i])
  const all = [...points.data.speaker.keys()]
  const whole = all.filter((i) => speakers.includes(points.data.speaker[i]))
  const indices = kind() == "speakers" ? whole : [first, second]
  points.tags = [indices, [first, second]]
  points.selected.indices = indices
  select() // also where the same utterances were selected before
}

if (cb_obj === points.selected) select()
else if (cb_obj === rows.selected) find()
else draw()
