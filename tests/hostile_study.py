"""A study all of whose words attack the page: ids, texts, labels, groups, raters, files, head and corpus."""

from __future__ import annotations

import numpy as np
import pandas as pd
from media_files import rising_tone, sound, write
from report_study import run_of, study_of
from synthetic_study import CLASSES, gates_of, ids_of

from mixed_signals.store import Corpus, Store

PWN = "window.pwned=1"
ATTACKS = (
    f"<script>{PWN}</script>",
    f"</script><script>{PWN}</script>",
    f"<!--<script>{PWN}",
    f'"><img src=x onerror={PWN}>',
    f"' onmouseover='{PWN}' x='",
    f"javascript:{PWN}",
    f"]]></style></title></textarea><svg onload={PWN}>",
    f"\\u003cscript\\u003e{PWN}\\u003c/script\\u003e &lt;script&gt;{PWN}&lt;/script&gt; &amp;amp;",
    f"`${{{PWN}}}`\"+{PWN}+\"'+{PWN}+'\\",
    f"line\u2028{PWN}\u2029paragraph",
    f"$$\\href{{javascript:{PWN}}}{{x}}$$ @{{utterance_id}}{{safe}} {{{{ 7*7 }}}} {{% raw %}}",
    "__proto__",
    "constructor",
    "שלום עולם \u202egnp.txt\u202c مرحبا",
    "👩‍👩‍👧‍👦 😀 e\u0301 ﷽",
    "a;b,c&d=e+f%20g#h?i/j|k~l:m",
)
"""Each is an id, a text, a group and a rater; the ids have a number before or behind."""

LABELS = (f"<b onclick={PWN}>angry</b>", "__proto__", f'</script><script>{PWN}</script>"')
HEAD = f"<img src=x onerror={PWN}>/../@a=1"
CORPUS = f"</title><script>{PWN}</script> & \"corpus\" 'name'"
LONG = ("word <i>of</i> fifty thousand characters, " * 1250)[:50_000]
PLAYS = f"it#plays?%41 é '\"&<img src=x onerror={PWN}>.wav"
MEDIA = (PLAYS, f"javascript:{PWN}", f"data:text/html,<script>{PWN}<", "", "gone.wav", PLAYS)


def hostile_ids(n):
    """Return ids, of which the first ones are attacks and nothing else."""
    return np.array(
        [ATTACKS[i] if i < len(ATTACKS) else f"{ATTACKS[i % len(ATTACKS)]} {i}" for i in range(n)]
    )


def hostile_texts(n):
    """Return the texts of the utterances; that of number 2 is `LONG`, and some begin and end with spaces."""
    return [LONG if i == 2 else f"  {ATTACKS[-i % len(ATTACKS)]}\n\ttext {i} " for i in range(n)]


def hostile_store(path, media_root, *, n=48):
    """Make a store with a run "study", and the media that exist."""
    media_root.mkdir(parents=True)
    write(media_root / PLAYS, sound(rising_tone(3, 16_000), rate=16_000), format="wav")
    rng = np.random.default_rng(1)
    predictions, truth, _ = study_of(0, n, heads=(HEAD, "logistic"))
    names = dict(zip(ids_of(n), hostile_ids(n), strict=True))
    labels = dict(zip(CLASSES, LABELS, strict=True))
    predictions = predictions.assign(
        utterance_id=predictions["utterance_id"].map(names),
        label_true=predictions["label_true"].map(labels),
        label_pred=predictions["label_pred"].map(labels),
    ).rename(columns={f"p_{old}": f"p_{new}" for old, new in labels.items()})
    label = [LABELS[k] for k in truth]
    utterances = pd.DataFrame(
        {
            "utterance_id": hostile_ids(n),
            "media": [MEDIA[i % len(MEDIA)] for i in range(n)],
            "start": [0.5 if MEDIA[i % len(MEDIA)] == PLAYS else np.nan for i in range(n)],
            "end": [1.0 if MEDIA[i % len(MEDIA)] == PLAYS else np.nan for i in range(n)],
            "text": hostile_texts(n),
            "label": label,
            "group": [ATTACKS[i % len(ATTACKS)] for i in range(n)],
        }
    )
    rows = [
        (hostile_ids(n)[i], ATTACKS[r], "text+audio+video", label[i] if rng.random() < 0.8 else LABELS[r % 3])
        for i in range(n)
        for r in range(6)
    ]
    ratings = pd.DataFrame(rows, columns=["utterance_id", "rater", "shown", "value"])
    store = Store.create(path, Corpus(CORPUS, utterances, ratings=ratings, media_root=media_root))
    run_of(predictions, gates_of(rng, predictions[predictions["head"] == HEAD]), LABELS).save(store, "study")
    return store
