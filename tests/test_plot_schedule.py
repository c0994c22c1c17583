"""The command plot-schedule: what it reads, what it draws, and how it refuses."""

import subprocess
import sys
from html import unescape
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="matplotlib, extra plot, is not installed")

from refoptim import SGD, Parameter, cli, lr_scheduler, plot

WARM_COSINE = "SequentialLR([LinearLR(total_iters=10), CosineAnnealingLR(T_max=90)], milestones=[10])"
ONE_CYCLE = "OneCycleLR(max_lr=0.1, total_steps=300)"


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Run the command in an empty folder; return the exit code, what it printed, and what it wrote."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = cli.main(["plot-schedule", *arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err, sorted(path.name for path in tmp_path.iterdir())

    return run


@pytest.mark.parametrize(
    ("text", "make"),
    [
        ("StepLR(7, gamma=0.5)", lambda o: lr_scheduler.StepLR(o, 7, gamma=0.5)),
        ("  LinearLR( ) ", lr_scheduler.LinearLR),
        ("CosineAnnealingLR(T_max=20, eta_min=-1e-3)", lambda o: lr_scheduler.CosineAnnealingLR(o, 20, eta_min=-1e-3)),
        ("MultiStepLR(milestones=(3, 9))", lambda o: lr_scheduler.MultiStepLR(o, [3, 9])),
        (ONE_CYCLE, lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=300)),
        (
            WARM_COSINE,
            lambda o: lr_scheduler.SequentialLR(
                o, [lr_scheduler.LinearLR(o, total_iters=10), lr_scheduler.CosineAnnealingLR(o, 90)], [10]
            ),
        ),
        (
            "ChainedScheduler([LinearLR(), ExponentialLR(0.9)])",
            lambda o: lr_scheduler.ChainedScheduler([lr_scheduler.LinearLR(o), lr_scheduler.ExponentialLR(o, 0.9)]),
        ),
    ],
)
def test_a_curve_is_what_the_scheduler_gives(text, make):
    (found,) = plot.curves([text], lr=0.25, steps=40)
    scheduler = make(SGD([Parameter([0.0])], lr=0.25, momentum=0.9))
    scheduler = scheduler if text == ONE_CYCLE else make(SGD([Parameter([0.0])], lr=0.25))
    assert found.lrs == scheduler.at(range(41))[0].tolist()
    assert found.label == " ".join(text.split())
    assert found.momentums == (scheduler.momentum_at(range(41))[0].tolist() if text == ONE_CYCLE else None)


def test_a_plateau_is_drawn_from_its_metrics():
    (found,) = plot.curves(["ReduceLROnPlateau(patience=1, factor=0.5)"], metrics=[3.0, 2.0, 2.0, 2.0, 1.0])
    assert found.lrs == [0.1, 0.1, 0.1, 0.1, 0.05, 0.05]


@pytest.mark.parametrize(
    ("text", "last"),
    [
        (ONE_CYCLE, 299),
        ("StepLR(30)", 149),
        ("MultiStepLR(milestones=[30, 80])", 100),
        ("LinearLR(total_iters=40)", 50),
        ("CosineAnnealingLR(50)", 100),
        ("CosineAnnealingWarmRestarts(10, T_mult=2)", 69),
        ("CyclicLR(base_lr=0.1, max_lr=1, step_size_up=20, step_size_down=10)", 90),
        ("SWALR(swa_lr=0.1, anneal_epochs=0)", 1),
        ("ExponentialLR(0.9)", 100),
        (WARM_COSINE, 190),
        (f"SequentialLR([LinearLR(), {ONE_CYCLE}], milestones=[10])", 309),
        ("ChainedScheduler([LinearLR(), StepLR(30)])", 149),
        ("StepLR(1_000_000_000)", plot.LONGEST),
        ("CyclicLR(base_lr=0.1, max_lr=1, step_size_up=1e308, step_size_down=1e308)", plot.LONGEST),
        ("CosineAnnealingLR(1e-300)", 1),
    ],
)
def test_all_of_a_schedule_is_drawn(text, last, monkeypatch):
    if last == plot.LONGEST:
        monkeypatch.setattr(plot, "LONGEST", last := 1000)
    (found,) = plot.curves([text])
    assert len(found.lrs) == last + 1


def test_curves_share_an_axis_and_stop_at_their_end():
    lengths = [len(each.lrs) for each in plot.curves([ONE_CYCLE, "LinearLR()"], steps=400)]
    assert lengths == [300, 401]
    assert [len(each.lrs) for each in plot.curves([ONE_CYCLE, "LinearLR()"])] == [300, 300]


def test_the_picture_has_labels_axes_and_the_momentum_where_it_is_cycled(command):
    code, out, err, written = command(WARM_COSINE, ONE_CYCLE, "-o", "curve.svg")
    assert (code, out, err, written) == (0, "curve.svg\n", "", ["curve.svg"])
    drawn = unescape(Path("curve.svg").read_text(encoding="utf-8"))
    for text in (f">{WARM_COSINE}<", f">{ONE_CYCLE}<", ">step<", ">learning rate<", ">momentum<"):
        assert text in drawn
    assert command("StepLR(3)", "-o", "plain.svg")[0] == 0
    assert ">momentum<" not in Path("plain.svg").read_text(encoding="utf-8")


def test_the_same_curves_give_the_same_file(tmp_path):
    files = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for file in files:
        plot.save(plot.curves([ONE_CYCLE]), file)
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--log"],
        ["--steps", "7", "--lr", "0"],
        ["--steps", "5", "--log", "--lr", "0"],
        ["--lr", "1e300", "--log"],
    ],
)
def test_the_default_is_a_png_in_this_folder(command, arguments):
    assert command("CosineAnnealingLR(T_max=5)", *arguments) == (0, "schedule.png\n", "", ["schedule.png"])
    assert Path("schedule.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_a_name_without_an_ending_is_a_png(command):
    assert command("StepLR(3)", "-o", "curve") == (0, "curve\n", "", ["curve"])
    assert Path("curve").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_dollars_are_not_mathematics(command):
    assert command("CyclicLR(base_lr=0.1, max_lr=1.0, scale_mode='cycle')", "MultiStepLR([3],  gamma=0.5)")[0] == 0
    plot.save([plot.Curve("$\\no such command$", [1.0, 2.0], None)], Path("dollars.svg"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Cosine(3)"], "Cosine is not a scheduler; there are ChainedScheduler"),
        (["LRScheduler()"], "LRScheduler is not a scheduler"),
        ([""], "is not of the form Name(argument=value, ...)"),
        (["StepLR"], "is not of the form"),
        (["StepLR(3"], "is not of the form"),
        (["StepLR(3); StepLR(3)"], "is not of the form"),
        (["lr_scheduler.StepLR(3)"], "is not of the form"),
        (["StepLR" + "(" * 500 + ")" * 500], "is not of the form"),
        (["StepLR()"], "missing 1 required positional argument: 'step_size'"),
        (["StepLR(3, gama=0.1)"], "unexpected keyword argument 'gama'"),
        (["StepLR(3, optimizer=None)"], "multiple values for argument 'optimizer'"),
        (["StepLR(step_size=0)"], "Expected positive integer step_size, but got 0"),
        (["StepLR(**{'step_size': 3})"], "write every argument as name=value"),
        (["StepLR(x)"], "x: arguments must be numbers, strings"),
        (["StepLR(2 ** 3)"], "2 ** 3: arguments must be numbers"),
        (["LambdaLR(lambda epoch: 0.5)"], "lambda epoch: 0.5: functions cannot be given on the command line"),
        (["StepLR(open('x', 'w'))"], "open is not a scheduler"),
        (["ChainedScheduler([])"], "expects at least one scheduler"),
        (["ChainedScheduler([StepLR(3), 4])"], "at index 1 got 4, which is no LRScheduler"),
        (["SequentialLR([StepLR(3)], milestones=[1])"], "number of schedulers"),
        (["ReduceLROnPlateau()"], "depends on metrics: give them with --metrics"),
        ([f"SequentialLR([{ONE_CYCLE}, LinearLR()], milestones=[400])"], "Tried to step 301 times"),
        (["ExponentialLR(1e200)"], "ExponentialLR(1e200): inf at step 2 cannot be drawn, beyond 1e+300"),
        (["CyclicLR(-1.7e308, 1.7e308, 3)", "--log"], "-1.7e+308 at step 0 cannot be drawn, beyond 1e+300"),
        (["StepLR(3)", "--steps", "0"], "the number of steps must be from 1 to 1,000,000, but is 0"),
        (["StepLR(3)", "--lr", "-1"], "the learning rate must be a finite number, at least 0, but is -1.0"),
        (["StepLR(3)", "--lr", "nan"], "but is nan"),
        (["StepLR(3)", "-o", "no/such/folder.png"], "-o no/such/folder.png: there is no folder no/such"),
        (["StepLR(3)", "-o", "x.doc"], "Format 'doc' is not supported"),
        (["StepLR(3)", "-o", "."], "it is a folder"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_a_line_and_nothing_is_written(command, arguments, message):
    code, out, err, written = command(*arguments)
    assert (code, out, written) == (2, "", [])
    assert message in err
    assert err.count("\n") == 1


def test_arguments_that_are_no_numbers_are_refused(command, capsys):
    for arguments, message in (
        (["--metrics", "1,two"], "invalid list of numbers: '1,two'; write 0.9,0.7,0.71,..."),
        (["--steps", "x"], "invalid int value: 'x'"),
    ):
        with pytest.raises(SystemExit, match="2"):
            command("StepLR(3)", *arguments)
        assert message in capsys.readouterr().err


def test_nothing_in_a_text_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text in ("StepLR(open('made', 'w'))", "StepLR((lambda: open('made', 'w'))())", "open('made', 'w')"):
        with pytest.raises(plot.SpecError):
            plot.parse(text)
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_the_command_says_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['matplotlib'] = None; from refoptim.cli import main; "
        "sys.exit(main(['plot-schedule', 'StepLR(3)']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "pip install 'refoptim[plot]'" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_importing_does_not_need_matplotlib():
    code = "import sys; import refoptim.plot; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_long_curve_is_thinned_out_and_keeps_its_ends(tmp_path):
    plot.save([plot.Curve("long", np.linspace(1, 0, 200_001).tolist(), None)], tmp_path / "long.svg")
    assert (tmp_path / "long.svg").stat().st_size < 100_000
