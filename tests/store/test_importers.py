import re
import shutil

import numpy as np
import pandas as pd
import pytest
from outside_data import outside_data

from mixed_signals.store import InvalidCorpus, Target, UsageError
from mixed_signals.store.corpora import cremad, empspeech, meld, ravdess


def write(folder, **files):
    """Write files below a folder; ``__`` in a name stands for the dot before its suffix."""
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    return folder


def touch(folder, *paths):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"")
    return folder


def faults_of(read, *arguments, **options):
    with pytest.raises(InvalidCorpus) as caught:
        read(*arguments, **options)
    return caught.value.lines


DIALOGS = "dialog_id,start_time,end_time,filename,transcript,label\n"


def dialogs(folder, train="", val="", test=""):
    return write(folder, train__csv=DIALOGS + train, val__csv=DIALOGS + val, test__csv=DIALOGS + test)


def test_the_studys_split_files_are_read_as_published():
    corpus = empspeech.read_corpus(outside_data("empspeech"))
    table = corpus.utterances
    assert dict(table["split"].value_counts()) == {"train": 1228, "val": 153, "test": 154}
    assert dict(table["label"].value_counts()) == {"neutral": 862, "empathetic": 673}
    assert table["group"].nunique() == 42
    assert corpus.targets[0].classes == ("neutral", "empathetic")
    assert table["start"].isna().all()
    assert (table["dialog_end"] > table["dialog_start"]).all()
    for _, dialog in table.groupby("dialog"):
        assert sorted(dialog["turn"]) == list(range(len(dialog)))
        assert dialog.sort_values("turn")["dialog_start"].is_monotonic_increasing


def test_empspeech_media_are_named_where_they_are(tmp_path):
    source = dialogs(tmp_path, "d,3,4,d_3,b,neutral\nd,1,2,d_1,a,empathetic\n")
    media = touch(tmp_path / "media", "d_1.mp4")
    table = empspeech.read_corpus(source, media_root=media).utterances
    assert list(table["media"]) == ["", "d_1.mp4"]
    assert list(table["turn"]) == [1, 0]
    assert list(empspeech.read_corpus(source, media_root="https://x.org/m").utterances["media"]) == [
        "d_3.mp4",
        "d_1.mp4",
    ]


def test_empspeech_faults_of_all_files_are_told_at_once(tmp_path):
    source = dialogs(tmp_path, "d,3,4,d_3,b,neutral\n,5,5,d_5,b,sad\n", "d,x,4,d_3,b,neutral\n")
    assert faults_of(empspeech.read_corpus, source) == [
        f"{source}/train.csv line 3, column label: 'sad' is none of neutral, empathetic; correct the cell",
        f"{source}/val.csv line 2, column start_time: 'x' is not a number; write e.g. 12.5",
        f"{source}/train.csv line 3, column end_time: 5 is not after the start, 5",
        f"{source}/train.csv line 3, column dialog_id: is empty; every row needs one",
        f"{source}/val.csv line 2, column filename: 'd_3' stands in an earlier row too; ids must be unique",
    ]


@pytest.mark.parametrize(
    ("read", "missing"),
    [
        (empspeech.read_corpus, "train.csv, val.csv, test.csv"),
        (cremad.read_corpus, "SentenceFilenames.csv, VideoDemographics.csv"),
        (meld.read_corpus, "train_sent_emo.csv, dev_sent_emo.csv, test_sent_emo.csv"),
    ],
)
def test_a_folder_without_the_published_files_is_refused(tmp_path, read, missing):
    with pytest.raises(UsageError, match=f"lacks {re.escape(missing)}; SOURCE is the folder that holds"):
        read(tmp_path)
    with pytest.raises(UsageError, match="not a folder; SOURCE"):
        read(tmp_path / "nowhere")


def test_the_listed_ravdess_recordings_agree_with_their_names():
    corpus = ravdess.read_corpus(outside_data("ravdess"))
    table = corpus.utterances
    assert len(table) == 480
    assert corpus.targets[0].classes == ravdess.EMOTIONS
    assert table["group"].nunique() == 8
    assert (table["media"] == "audio/" + table["utterance_id"] + ".flac").all()
    assert set(table["channel"]) == {"speech"}


def test_a_ravdess_performance_is_one_utterance(tmp_path):
    source = touch(
        tmp_path,
        "Actor_12/03-01-06-02-02-01-12.wav",
        "Video_Speech_Actor_12/Actor_12/01-01-06-02-02-01-12.mp4",
        "Video_Speech_Actor_12/Actor_12/02-01-06-02-02-01-12.mp4",
        "Actor_03/03-02-05-01-01-02-03.wav",
        "Actor_03/02-02-05-01-01-02-03.mp4",
        "Actor_03/02-01-01-01-01-02-03.mp4",
        "Actor_03/readme.txt",
    )
    table = ravdess.read_corpus(source).utterances.set_index("utterance_id")
    assert dict(table["media"]) == {
        "01-01-01-01-02-03": "Actor_03/02-01-01-01-01-02-03.mp4",
        "01-06-02-02-01-12": "Video_Speech_Actor_12/Actor_12/01-01-06-02-02-01-12.mp4",
        "02-05-01-01-02-03": "Actor_03/03-02-05-01-01-02-03.wav",
    }
    fearful = table.loc["01-06-02-02-01-12"]
    assert fearful["text"] == "Dogs are sitting by the door"
    assert list(fearful[["label", "speaker", "group", "sex", "intensity", "channel"]]) == [
        "fearful",
        "actor12",
        "actor12",
        "female",
        "strong",
        "speech",
    ]
    song = table.loc["02-05-01-01-02-03"]
    assert list(song[["label", "sex", "statement", "repetition", "channel"]]) == [
        "angry",
        "male",
        1,
        2,
        "song",
    ]
    above = ravdess.read_corpus(source / "Actor_03", media_root=source).utterances
    assert list(above["media"]) == ["Actor_03/02-01-01-01-01-02-03.mp4", "Actor_03/03-02-05-01-01-02-03.wav"]
    with pytest.raises(UsageError, match="not below the media root"):
        ravdess.read_corpus(source / "Actor_03", media_root=source / "Actor_12")


def test_wrong_and_doubled_ravdess_recordings_are_listed(tmp_path):
    source = touch(
        tmp_path,
        "a/03-01-06-02-02-01-12.wav",
        "b/03-01-06-02-02-01-12.wav",
        "a/03-01-09-02-02-01-12.wav",
        "a/03-01-06-02-02-01-25.wav",
        "a/talk.mp4",
    )
    lines = faults_of(ravdess.read_corpus, source)
    assert [line.split(": ")[0].removeprefix(f"{source}/") for line in lines] == [
        "a/03-01-06-02-02-01-25.wav",
        "a/03-01-09-02-02-01-12.wav",
        "a/talk.mp4",
        "b/03-01-06-02-02-01-12.wav",
    ]
    assert "the same recording as" in lines[3]
    alone = touch(tmp_path / "alone", "talk.mp4")
    assert "not the name of a recording" in faults_of(ravdess.read_corpus, alone)[0]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no recording in it; unpack"):
        ravdess.read_corpus(tmp_path / "empty")


def test_a_list_that_contradicts_ravdess_names_is_refused(tmp_path):
    table = "utterance_id,audio,label,sex\n01-01-01-01-01-01,a.flac,sad,male\n09-01-01-01-01-01,b.flac,calm,male\n"
    source = write(tmp_path, utterances__csv=table + "01-02-01-01-01-01,../c.flac,calm,male\n")
    lines = faults_of(ravdess.read_corpus, source)
    assert "line 3, column utterance_id: '09-01-01-01-01-01' is not the name of a recording" in lines[0]
    assert lines[1:] == [
        f"{source}/utterances.csv line 2, column label: is 'sad', but the id says 'neutral'",
        f"{source}/utterances.csv line 4, column audio: '../c.flac' is not a path below the media root; "
        "write it relative to that, with /",
    ]


def test_hidden_files_beside_ravdess_recordings_are_passed_over(tmp_path):
    source = touch(
        tmp_path,
        "Actor_12/03-01-06-02-02-01-12.wav",
        "Actor_12/._03-01-06-02-02-01-12.wav",
        "__MACOSX/Actor_12/._03-01-06-02-02-01-12.wav",
        ".trash/03-01-06-02-02-01-12.wav",
    )
    assert list(ravdess.read_corpus(source).utterances["media"]) == ["Actor_12/03-01-06-02-02-01-12.wav"]


def test_published_corpora_take_further_targets_and_name_their_cells_by_line(tmp_path):
    source = dialogs(tmp_path, "d,1,2,d_1,a,empathetic\nd,3,4,d_3,b,neutral\n")
    corpus = empspeech.read_corpus(source, targets=[Target("dialog_end", "interval")])
    assert [target.name for target in corpus.targets] == ["label", "dialog_end"]
    narrow = Target("dialog_end", "interval", range=(0, 3))
    (line,) = faults_of(empspeech.read_corpus, source, targets=[narrow])
    assert line.startswith(f"{source}/train.csv line 3, column end_time: 4 is not within 0 to 3")


CREMAD = ("SentenceFilenames.csv", "VideoDemographics.csv", "tabulatedVotes.csv")


def test_cremad_votes_are_those_published():
    source = outside_data("cremad")
    corpus = cremad.read_corpus(source)
    table = corpus.utterances
    assert (len(table), table["group"].nunique(), int(corpus.ratings["count"].sum())) == (7442, 91, 212_000)
    published = pd.read_csv(source / "tabulatedVotes.csv").set_index("fileName")
    kind = published.pop("Unnamed: 0") // 100_000
    letters = np.array(list(cremad.EMOTIONS))
    accuracy = {}
    for number, target in ((1, "votes_audio"), (2, "votes_video"), (3, "votes")):
        votes = corpus.votes(target)
        top = votes == votes.max(axis=1, keepdims=True)
        majority = [":".join(letters[row]) for row in top]
        assert majority == list(published["emoVote"][kind == number].reindex(corpus.ids))
        accuracy[target] = (corpus.labels(target) == corpus.labels("label")).mean()
    assert accuracy == pytest.approx({"votes_audio": 0.416, "votes_video": 0.663, "votes": 0.722}, abs=5e-4)
    assert [target.name for target in corpus.targets] == ["label", "votes", "votes_audio", "votes_video"]
    assert list(table.iloc[0][["text", "age", "sex", "intensity"]]) == [
        "It's eleven o'clock.",
        51,
        "male",
        "XX",
    ]


def small_cremad(folder, clips=("1001_IEO_NEU_XX", "1002_TIE_HAP_LO"), votes=None):
    listed = "".join(f'{number},"{clip}"\n' for number, clip in enumerate(clips, start=1))
    rows = votes or [
        (kind * 100_000 + number, 1, 0, 0, 0, 2, 0, clip, 3)
        for kind in (1, 2, 3)
        for number, clip in enumerate(clips, start=1)
    ]
    return write(
        folder,
        SentenceFilenames__csv='"Stimulus_Number","Filename"\n' + listed,
        VideoDemographics__csv='"ActorID","Age","Sex","Race","Ethnicity"\n'
        "1001,51,Male,Caucasian,Not Hispanic\n1002,21,Female,Asian,Not Hispanic\n",
        tabulatedVotes__csv='"","A","D","F","H","N","S","fileName","numResponses"\n'
        + "".join(",".join(map(str, row)) + "\n" for row in rows),
    )


def test_cremad_media_are_the_pictures_where_there_are_any(tmp_path):
    source = small_cremad(tmp_path)
    touch(
        source,
        "AudioWAV/1001_IEO_NEU_XX.wav",
        "VideoFlash/1001_IEO_NEU_XX.flv",
        "AudioWAV/1002_TIE_HAP_LO.wav",
    )
    table = cremad.read_corpus(source).utterances
    assert list(table["media"]) == ["VideoFlash/1001_IEO_NEU_XX.flv", "AudioWAV/1002_TIE_HAP_LO.wav"]
    (source / "processedResults").mkdir()
    shutil.move(source / "tabulatedVotes.csv", source / "processedResults")
    assert len(cremad.read_corpus(source).ratings) == 12


def test_cremad_faults_are_listed(tmp_path):
    source = small_cremad(tmp_path, clips=("1001_IEO_NEU_XX", "1003_TIE_HAP_LO", "1001_IEO_BAD_XX"))
    lines = faults_of(cremad.read_corpus, source)
    listed = f"{source}/SentenceFilenames.csv"
    assert lines == [
        f"{listed} line 4, column Filename: '1001_IEO_BAD_XX' is not the name of a clip; names are like "
        "1001_IEO_NEU_XX",
        f"{listed} line 3, column Filename: actor 1003 is not in VideoDemographics.csv; add a row there",
    ]
    clip = "1001_IEO_NEU_XX"
    votes = [
        (100_001, 1, 0, 0, 0, 2, 0, clip, 3),
        (100_001, 1, 0, 0, 0, 2, 0, clip, 3),
        (200_001, -1, 0, 0, 0, 2, 0, clip, 1),
        (300_001, 1, 0, 0, 0, 2, 0, clip, 4),
        (300_002, 1, 0, 0, 0, 2, 0, clip, 3),
    ]
    lines = faults_of(cremad.read_corpus, small_cremad(tmp_path, clips=(clip,), votes=votes))
    table = f"{source}/tabulatedVotes.csv"
    mend = "rows are named 100000 x (1 voice, 2 face, 3 both) + the clip's number in SentenceFilenames.csv"
    assert lines == [
        f"{table} line 6, column fileName: '{clip}' is not what row 300002 names; {mend}",
        f"{table} line 3, column fileName: '{clip}' (audio) stands in an earlier row too; keep one",
        f"{table} line 4, column A: -1 is not a count of votes",
        f"{table} line 5, column numResponses: 4 is not the sum of the votes in the row, 3; correct one",
    ]
    lines = faults_of(cremad.read_corpus, small_cremad(tmp_path, clips=(clip,), votes=votes[:1]))
    assert lines == [f"{table}: no row for '{clip}' ({shown}); add it" for shown in ("video", "audio+video")]


ANSWERS = (
    ",localid,pos,ans,ttr,queryType,numTries,clipNum,questNum,subType,clipName,sessionNums,respEmo,respLevel,"
    "dispEmo,dispVal,dispLevel\n"
)
CLICKS = ",localid,sessionNums,queryType,questNum,pos,ttr,numTries,clipNum,clipName\n"


def answer(rater, kind, clip, question, session, emotion, name="1001_IEO_NEU_XX"):
    return (
        f"9,{rater},5,{emotion}_60,2000,{kind},0,{clip},{question},4,{name},{session},{emotion},60,N,NA,X\n"
    )


def test_cremad_answers_that_came_too_late_or_were_practice_do_not_count(tmp_path):
    source = small_cremad(tmp_path, clips=("1001_IEO_NEU_XX",))
    answers = [
        answer("r1", 1, 1, 1, 11, "N"),
        answer("r1", 3, 1, 2, 11, "A"),
        answer("r1", 3, 1, 3, 11, "A"),
        answer("r2", 3, 1, 1, 12, "S"),
        answer("r2", 3, 7443, 2, 12, "A", "ANG_HI_practice"),
    ]
    write(source, finishedResponses__csv=ANSWERS + "".join(answers))
    with pytest.raises(UsageError, match=r"without finishedEmoResponses\.csv"):
        cremad.read_corpus(source)
    late, soon, unknown = (
        "9,r2,12,3,1,5,10001,0,1,x\n",
        "9,r1,11,1,1,5,10000,0,1,x\n",
        "9,r1,11,3,2,5,NA,0,1,x\n",
    )
    write(source, finishedEmoResponses__csv=CLICKS + late + soon + unknown)
    corpus = cremad.read_corpus(source)
    assert corpus.ratings[["rater", "shown", "value", "count"]].to_numpy().tolist() == [
        ["r1", "audio", "neutral", 1],
        ["r1", "audio+video", "anger", 1],
        ["r1", "audio+video", "anger", 1],
    ]
    assert list(corpus.labels("votes")) == ["anger"]


def test_wrong_cremad_answers_are_listed(tmp_path):
    source = small_cremad(tmp_path, clips=("1001_IEO_NEU_XX",))
    answers = [answer("r1", 4, 1, 1, 11, "N"), answer("r1", 1, 2, 2, 11, "N"), answer("r1", 1, 1, 3, 11, "X")]
    write(source, finishedResponses__csv=ANSWERS + "".join(answers), finishedEmoResponses__csv=CLICKS)
    lines = faults_of(cremad.read_corpus, source)
    assert [line.split(": ")[0].removeprefix(f"{source}/finishedResponses.csv ") for line in lines] == [
        "line 3, column clipName",
        "line 2, column queryType",
        "line 4, column respEmo",
    ]


EPISODES = (
    "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"
)


def episodes(folder, train="", dev="", test=""):
    return write(
        folder,
        train_sent_emo__csv=EPISODES + train,
        dev_sent_emo__csv=EPISODES + dev,
        test_sent_emo__csv=EPISODES + test,
    )


def test_meld_dialogs_of_several_splits_are_kept_apart(tmp_path):
    line = '{},{},Joey,{},0,{},8,21,"00:16:16,059","0:16:21,731"\n'
    source = episodes(
        tmp_path,
        line.format(1, "It\x92s \x85", "joy,positive", 0) + line.format(2, "Hm", "anger,negative", 2),
        line.format(1, "It’s", "neutral,neutral", 0),
    )
    touch(source, "train_splits/dia0_utt2.mp4", "dev_splits_complete/dia0_utt0.mp4")
    corpus = meld.read_corpus(source)
    table = corpus.utterances
    assert list(corpus.ids) == ["train_dia0_utt0", "train_dia0_utt2", "dev_dia0_utt0"]
    assert list(table["text"]) == ["It’s …", "Hm", "It’s"]
    assert list(table["group"]) == list(table["dialog"]) == ["train_dia0", "train_dia0", "dev_dia0"]
    assert list(table["turn"]) == [0, 2, 0]
    assert list(table["media"]) == ["", "train_splits/dia0_utt2.mp4", "dev_splits_complete/dia0_utt0.mp4"]
    assert list(table["episode_start"]) == [976.059] * 3
    assert list(table["episode_end"]) == [981.731] * 3
    assert table["start"].isna().all()
    assert [target.classes for target in corpus.targets] == [("neutral", "joy", "anger"), meld.SENTIMENTS]


def test_wrong_meld_rows_are_listed(tmp_path):
    source = episodes(tmp_path, 'a,b,c,glad,positive,x,1,8,21,"1616","0:16:21,731"\n')
    assert faults_of(meld.read_corpus, source) == [
        f"{source}/train_sent_emo.csv line 2, column {column}: {fault}"
        for column, fault in (
            ("Emotion", f"'glad' is none of {', '.join(meld.EMOTIONS)}; correct the cell"),
            ("Dialogue_ID", "'x' is not a whole number; number them from 0"),
            ("StartTime", "'1616' is not a time; write e.g. 00:16:16,059"),
        )
    ]
