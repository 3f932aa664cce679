"""How fast dataset attributions are, beside the forward pass and beside the definition.

    python -m benchmarks.attribution [--run demo] [--no-run] [--tokens 8x128] [--threads 1] [--parts glu]

Prints, for a random model of 5,600 components at several densities of causal importance and for a
decomposed run at its own: a plain forward, a forward with causal importance, the engine (`attr`,
`attr` + `attr_abs`, both without and with delta nodes), the definition's loop over targets
(extrapolated from a stated sample), the ratios, and peak memory. Engine times are what attribution
adds to a forward pass whose inside has been kept; "whole pass" includes that forward pass with
causal importances. On one CPU thread, times are processor times. With `--parts` only the sites of the
random model whose address holds one of these words are decomposed, and the rest is left whole; there
the density does not decide the time, and one is enough.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import resource
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from compute.attribution.capture import Capture
from compute.attribution.definition import time_definition
from compute.attribution.engine import AttributionEngine
from compute.attribution.sparse import DENSE_ABOVE
from compute.decomposition.importance_config import ImportanceConfig
from compute.decomposition.model import Decomposition
from compute.targets.config import TargetConfig
from compute.targets.model import TargetModel

COMPONENTS_PER_SITE = 200
DENSITIES = (0.01, 0.03, 0.1, 1.0)
#: Targets of each site whose backward passes are timed for the definition.
SAMPLE = 4


def random_model(parts: tuple[str, ...] = (), seed: int = 0) -> Decomposition:
    """4 blocks, d_model 128, d_ff 512, 4 heads (2 for keys and values), 200 components a site: 5,600.

    With ``parts``, only the sites whose address holds one of them have components.
    """
    config = TargetConfig(
        family="llama",
        n_blocks=4,
        d_model=128,
        d_ff=512,
        n_heads=4,
        n_kv_heads=2,
        vocab_size=1024,
        context=512,
        activation="silu",
    )
    torch.manual_seed(seed)
    target = TargetModel(config)
    target.initialise()
    decomposition = Decomposition(
        target,
        {
            address: COMPONENTS_PER_SITE
            for address in target.topology.modules
            if not parts or any(part in str(address) for part in parts)
        },
        ImportanceConfig(kind="shared_mlp", hidden=(256,)),
    )
    with torch.no_grad():
        for name, parameter in decomposition.named_parameters():
            if not name.startswith("target."):
                parameter.normal_(0, parameter.shape[-1] ** -0.5)
    return decomposition.requires_grad_(False)


def skewed_support(n_positions: int, n_components: int, density: float, generator: torch.Generator) -> Tensor:
    """Which components are alive where [P, C]: frequencies fall as 1/rank, at most 0.9, mean ``density``."""
    if density >= 1:
        return torch.ones(n_positions, n_components, dtype=torch.bool)
    rank = torch.arange(1, n_components + 1)
    low, high = 0.0, 1e6
    for _ in range(60):
        middle = (low + high) / 2
        if (middle / rank).clamp(max=0.9).mean() > density:
            high = middle
        else:
            low = middle
    frequency = (low / rank).clamp(max=0.9)[torch.randperm(n_components, generator=generator)]
    return torch.rand(n_positions, n_components, generator=generator) < frequency


def with_density(captured: Capture, density: float) -> Capture:
    """The same forward pass with random importances of a given density."""
    generator = torch.Generator().manual_seed(1)
    importance = {}
    for address, y in captured.activations.items():
        g = torch.rand(y.shape, generator=generator)
        importance[address] = (g * skewed_support(*y.shape, density, generator)).to(y)
    return Capture(
        captured.tokens,
        captured.trace,
        captured.logits,
        captured.activations,
        captured.delta_outputs,
        importance,
    )


def clock_for(device: torch.device) -> Callable[[], float]:
    """With one thread on a CPU, processor time: other work on the machine hardly touches it."""
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return time.process_time if alone else time.perf_counter


def seconds(action: Callable[[], object], repeats: int, device: torch.device) -> float:
    """The least of several timings: what disturbs a run can only make it longer."""
    clock = clock_for(device)
    best = float("inf")
    for _ in range(repeats):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        started = clock()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, clock() - started)
    return best


def peak_memory(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.max_memory_allocated(device) / 2**20:.0f} MiB of GPU memory"
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB resident"


def machine(device: torch.device) -> str:
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    gpu = f", {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    load = f"{os.getloadavg()[0]:.1f}"
    return (
        f"{name}, {os.cpu_count()} logical cores (load {load}), {torch.get_num_threads()} thread(s){gpu}, "
        f"torch {torch.__version__}, Python {platform.python_version()}"
    )


def benchmark(
    decomposition: Decomposition, tokens: Tensor, densities: tuple[float | None, ...], repeats: int
) -> None:
    """Print all figures of one model; density None stands for its own importances."""
    device = decomposition.target.token_embedding.weight.device
    tokens = tokens.to(device)
    off = AttributionEngine(decomposition, "off", ("attr",))
    off_both = AttributionEngine(decomposition, "off", ("attr", "attr_abs"))
    node = AttributionEngine(decomposition, "node", ("attr",))
    node_both = AttributionEngine(decomposition, "node", ("attr", "attr_abs"))
    site = decomposition.site_function()

    @torch.no_grad()
    def forward() -> None:
        decomposition.target(tokens, site=site)

    @torch.no_grad()
    def forward_with_importance() -> None:
        decomposition.causal_importance(decomposition.clean_pass(tokens)[1])

    plain = seconds(lambda: torch.no_grad()(decomposition.target)(tokens), repeats, device)
    components = seconds(forward, repeats, device)
    reference = seconds(forward_with_importance, repeats, device)
    captured_pass = seconds(lambda: node.capture(tokens), repeats, device)
    print(f"  tokens {tokens.shape[0]} × {tokens.shape[1]}; {decomposition.total_components} components")
    print(f"  plain forward of the target               {plain * 1e3:10.1f} ms")
    print(f"  forward through the components            {components * 1e3:10.1f} ms")
    print(f"  forward of the target with CI             {reference * 1e3:10.1f} ms   = 1 × (fwd+CI below)")
    print(f"  the same with its inside and deltas kept  {captured_pass * 1e3:10.1f} ms")
    loop = {
        metric: time_definition(decomposition, tokens, metric=metric, sample=SAMPLE, clock=clock_for(device))
        for metric in ("attr", "attr_abs")
    }
    loop_attr, loop_both = loop["attr"].seconds, loop["attr"].seconds + loop["attr_abs"].seconds
    print(
        f"  definition, one backward pass per target: attr {loop_attr:.1f} s ({loop_attr / reference:.0f} ×), "
        f"attr + attr_abs {loop_both:.1f} s ({loop_both / reference:.0f} ×)"
    )
    print(
        f"    extrapolated from {loop['attr'].sampled} of {loop['attr'].n_targets} backward passes for attr, "
        f"{loop['attr_abs'].sampled} of {loop['attr_abs'].n_targets} for attr_abs, delta off, no forward included"
    )
    print(
        f"  {'density':>9}  {'engine':<28} {'ms':>9} {'× fwd+CI':>9} {'loop ÷ it':>10} {'whole pass ms':>14}"
    )
    for density in densities:
        clean = node.capture(tokens)
        only = off.capture(tokens)
        if density is not None:
            clean, only = with_density(clean, density), with_density(only, density)
        assert clean.importance is not None
        alive = sum((g > 0).sum().item() for g in clean.importance.values())
        actual = alive / sum(g.numel() for g in clean.importance.values())
        for label, engine, captured, loop_seconds in (
            ("attr", off, only, loop_attr),
            ("attr, delta nodes", node, clean, loop_attr),
            ("attr + attr_abs", off_both, only, loop_both),
            ("attr + attr_abs, delta nodes", node_both, clean, loop_both),
        ):
            sums = engine.new_sums()
            slow = actual > DENSE_ABOVE and "abs" in label
            if not slow:
                engine.accumulate_capture(sums, captured)  # constants, first calls
            spent = seconds(
                lambda engine=engine, sums=sums, captured=captured: engine.accumulate_capture(sums, captured),
                1 if slow else repeats,
                device,
            )
            print(
                f"  {100 * actual:8.2f}%  {label:<28} {spent * 1e3:9.1f} {spent / reference:9.2f} "
                f"{loop_seconds / spent:10.0f} {(spent + captured_pass) * 1e3:14.1f}",
                flush=True,
            )


def load_run(name: str, folder: Path, n_sequences: int, length: int) -> tuple[Decomposition, Tensor]:
    from backend.pipelines.load import load_decomposition
    from storage.run_directory import resolve_run

    run = resolve_run(name, folder)
    decomposition = load_decomposition(run).requires_grad_(False)
    start = len(run.corpus().tokens) // 2
    tokens = torch.from_numpy(run.corpus().tokens[start : start + n_sequences * length].astype("int64"))
    return decomposition, tokens.view(n_sequences, length)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", default="demo", help="a run's name or path")
    parser.add_argument("--no-run", action="store_true", help="only the random model")
    parser.add_argument("--no-random", action="store_true", help="only the run")
    parser.add_argument("--runs", type=Path, default=Path(os.environ.get("TRIBUTARY_RUNS", "runs")))
    parser.add_argument(
        "--parts", default="", help="decompose only such sites of the random model, e.g. glu or attn.o,down"
    )
    parser.add_argument("--tokens", default="8x128", help="sequences × positions in a batch")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    n_sequences, length = (int(part) for part in options.tokens.lower().split("x"))
    device = torch.device(options.device)
    print(machine(device))
    if not options.no_random:
        parts = tuple(part for part in options.parts.split(",") if part)
        decomposition = random_model(parts).to(device)
        generator = torch.Generator().manual_seed(2)
        tokens = torch.randint(0, 1024, (n_sequences, length), generator=generator)
        print("\nrandom model, skewed random importances")
        n_sites = len(decomposition.addresses)
        if parts:
            print(f"{n_sites} of {len(decomposition.topology.modules)} matrices decomposed: {options.parts}")
        benchmark(decomposition, tokens, (DENSITIES[1],) if parts else DENSITIES, options.repeats)
        print(f"  peak memory so far: {peak_memory(device)}")
    if not options.no_run:
        decomposition, tokens = load_run(options.run, options.runs, n_sequences, length)
        print(f"\nrun {options.run}, its own importances, then the random ones")
        benchmark(decomposition.to(device), tokens, (None, *DENSITIES), options.repeats)
        print(f"  peak memory so far: {peak_memory(device)}")


if __name__ == "__main__":
    main()
