"""Toy runs: what they are, how they answer to features, and how near they are to the known solution."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from backend.errors import ServiceError
from backend.service.overview import ALIVE_THRESHOLD
from backend.service.run import Run
from backend.service.timing import Stopwatch
from backend.service.workshop import Workshop
from backend.toy_schemas import (
    MAX_CELLS,
    ToyAnswer,
    ToyComponent,
    ToyDescription,
    ToyErrors,
    ToyEvaluation,
    ToyInputs,
    ToyLink,
    ToyMatrix,
    ToyOrder,
    ToyOutputErrors,
    ToyPattern,
    ToyRequest,
    ToyResponse,
    ToySiteAnswer,
    ToySiteFit,
)
from compute.address import Address, Key, parse_address, parse_key
from compute.progress import Report
from compute.toys.config import STANDARD_VALUE, ExpectedPattern, ResidualMlpConfig, TmsConfig, read_config
from compute.toys.orders import dense_errors, dense_order, identity_errors, identity_order
from storage.errors import NoModelError, UnknownKeyError

if TYPE_CHECKING:
    from torch import Tensor

    from compute.toys.decomposition import ToyDecomposition
    from compute.toys.response import Fit

Gone = Callable[[], Awaitable[bool]]
#: An entry is wrong where it is off by more than one of these, as in the public code.
TOLERANCES = (0.1, 0.2)
#: Sampled inputs that output errors are measured on, and the seed that draws them.
_SAMPLES = 2048
_SEED = 0


def toy_config(run: Run) -> TmsConfig | ResidualMlpConfig:
    """The shape of a run's toy model; raises a 409 where the run is of another kind."""
    if run.info.kind != "toy":
        raise NoModelError(
            f"the run {run.name} holds no toy model of features",
            "ask for its components, its attributions or its text",
        )
    return read_config(run.info.target)


def describe(run: Run) -> ToyDescription:
    """The model's sizes, its matrices in forward order, what it was trained on and for."""
    watch = Stopwatch()
    config = toy_config(run)
    data = config.data
    tms = config if isinstance(config, TmsConfig) else None
    mlp = config if isinstance(config, ResidualMlpConfig) else None
    coefficients = mlp and mlp.label_coefficients
    return ToyDescription(
        run=run.name,
        kind=config.kind,
        n_features=config.n_features,
        n_hidden=tms and tms.n_hidden,
        tied=None if tms is None else tms.tied,
        d_embed=mlp and mlp.d_embed,
        d_mlp=mlp and mlp.d_mlp,
        activation=mlp and mlp.activation,
        label="abs" if mlp is None else mlp.label,
        label_coefficients=None if coefficients is None else list(coefficients),
        inputs=data
        and ToyInputs(
            generation=data.generation,
            feature_probability=data.feature_probability,
            low=data.low,
            high=data.high,
            synced=[list(group) for group in data.synced],
        ),
        standard_value=STANDARD_VALUE,
        matrices=[
            ToyMatrix(
                address=str(module.address),
                path=module.path,
                d_in=module.d_in,
                d_out=module.d_out,
                has_bias=module.has_bias,
                reads=module.reads,
                writes=module.writes,
                n_components=run.n_components.get(module.address, 0),
                expected=_pattern(_expected(config, module.address)),
            )
            for module in config.modules
        ],
        seconds=watch.seconds,
    )


def _expected(config: TmsConfig | ResidualMlpConfig, address: Address) -> ExpectedPattern | None:
    return next((pattern for pattern in config.expected if pattern.address == str(address)), None)


def _pattern(expected: ExpectedPattern | None) -> ToyPattern | None:
    return expected and ToyPattern(pattern=expected.pattern, k=expected.k)


def _errors(expected: ExpectedPattern | None, importance: np.ndarray) -> list[ToyErrors]:
    """Wrong entries of importances [features, C] by tolerance; none where nothing is expected."""
    if expected is None:
        return []
    return [
        ToyErrors(
            tolerance=tolerance,
            wrong=identity_errors(importance, tolerance)
            if expected.pattern == "identity"
            else dense_errors(importance, expected.k, tolerance),
        )
        for tolerance in TOLERANCES
    ]


def _order(order: ToyOrder, expected: ExpectedPattern | None, importance: np.ndarray) -> np.ndarray:
    if order == "expected":
        order = "identity" if expected is None else expected.pattern
    if order == "identity":
        return identity_order(importance)
    return dense_order(importance) if order == "dense" else np.arange(importance.shape[1])


def find_site(run: Run, text: str) -> Address:
    """A decomposed matrix by its address; raises :class:`UnknownKeyError`."""
    address = parse_address(text)
    if address not in run.n_components:
        there = ", ".join(map(str, run.n_components))
        raise UnknownKeyError(f"{run.name} has no components at {text}", f"there are {there}")
    return address


def find_component(run: Run, text: str) -> Key:
    """A component by its key; raises :class:`UnknownKeyError`."""
    key = parse_key(text)
    count = run.n_components[find_site(run, str(key.address))] if key.address.is_site else 0
    if not isinstance(key.index, int) or key.index >= count:
        raise UnknownKeyError(
            f"{run.name} has no component {text}",
            "ask for one such as " + f"{next(iter(run.n_components))}:0",
        )
    return key


@dataclass(frozen=True)
class Window:
    """Which part of a matrix of answers is asked for."""

    first_feature: int
    features: int
    components: int


async def response(
    workshop: Workshop, run: Run, site: str, value: float, order: ToyOrder, window: Window, gone: Gone
) -> ToyResponse:
    """Answers of one matrix's components to single features; errors are counted over all of them."""
    watch = Stopwatch()
    config = toy_config(run)
    address = find_site(run, site)
    rows = min(window.features, max(0, config.n_features - window.first_feature))
    columns = min(window.components, run.n_components[address])
    if rows * columns > MAX_CELLS:
        raise ServiceError(
            413,
            "too_large",
            f"{rows:,} features by {columns:,} components are more than {MAX_CELLS:,} entries",
            "Ask for fewer features or components at once.",
        )

    def work(_: Report) -> tuple[np.ndarray, np.ndarray]:
        from compute.toys.response import answer, single_features

        toy = workshop.toys.get(run)
        found = answer(toy, single_features(toy, value))
        return _numbers(found.importance[address]), _numbers(found.activation[address])

    (importance, activation), peak = await workshop.quick(work, gone)
    expected = _expected(config, address)
    places = _order(order, expected, importance)
    part = slice(window.first_feature, window.first_feature + rows), places[:columns]
    return ToyResponse(
        run=run.name,
        address=site,
        value=value,
        order=order,
        permuted=bool((places != np.arange(len(places))).any()),
        first_feature=window.first_feature,
        components=places[:columns].tolist(),
        total_components=len(places),
        total_features=config.n_features,
        alive=int((importance > ALIVE_THRESHOLD).any(0).sum()),
        importance=importance[part].tolist(),
        activation=activation[part].tolist(),
        expected=_pattern(expected),
        errors=_errors(expected, importance),
        seconds=watch.seconds,
        peak_bytes=peak,
    )


async def component(
    workshop: Workshop, run: Run, text: str, value: float, k: int, gone: Gone
) -> ToyComponent:
    """What one component reads and writes, which features it answers to, and what it goes with."""
    watch = Stopwatch()
    config = toy_config(run)
    key = find_component(run, text)
    index = key.index
    assert isinstance(index, int)
    paths = {module.address: module.path for module in config.modules}

    def work(_: Report) -> ToyComponent:
        from compute.toys.response import answer, single_features

        toy = workshop.toys.get(run)
        found = answer(toy, single_features(toy, value))
        V, U = toy.V(key.address).detach()[:, index], toy.U(key.address).detach()[index]
        read, written = toy.target.from_features(key.address), toy.target.to_outputs(key.address)
        sources, targets = _links(toy, key.address, index, k, paths)
        return ToyComponent(
            run=run.name,
            key=text,
            address=str(key.address),
            index=index,
            path=paths[key.address],
            value=value,
            V=V.tolist(),
            U=U.tolist(),
            V_norm=float(V.norm()),
            U_norm=float(U.norm()),
            reads_features=None if read is None else (read.detach() @ V).tolist(),
            writes_outputs=None if written is None else (U @ written.detach()).tolist(),
            importance=found.importance[key.address][:, index].tolist(),
            activation=found.activation[key.address][:, index].tolist(),
            sources=sources,
            targets=targets,
            seconds=0,
            peak_bytes=0,
        )

    answered, peak = await workshop.quick(work, gone)
    return answered.model_copy(update={"seconds": watch.seconds, "peak_bytes": peak})


def _links(
    toy: ToyDecomposition, address: Address, index: int, k: int, paths: dict[Address, str]
) -> tuple[list[ToyLink], list[ToyLink]]:
    """The k strongest sources and the k strongest targets of a component, by weights alone."""
    decomposed = frozenset(toy.n_components)

    def meeting(writer: Address, path: Tensor | None, reader: Address) -> Tensor:
        """‖V_c‖ (U_c P V_d) ‖U_d‖ for all c of the writer and d of the reader."""
        U, V = toy.U(writer).detach(), toy.V(reader).detach()
        weights = (U if path is None else U @ path) @ V
        writers = toy.V(writer).detach().norm(dim=0)[:, None]
        return writers * weights * toy.U(reader).detach().norm(dim=1)

    def strongest(found: list[tuple[Address, Tensor]]) -> list[ToyLink]:
        links = [
            ToyLink(key=f"{where}:{i}", path=paths[where], weight=weight)
            for where, weights in found
            for i, weight in enumerate(weights.tolist())
            if weight != 0
        ]
        return sorted(links, key=lambda link: -abs(link.weight))[:k]

    targets = [
        (reader, meeting(address, path, reader)[index])
        for reader, path in toy.target.followers(address, decomposed).items()
    ]
    sources = [
        (writer, meeting(writer, followers[address], address)[:, index])
        for writer in toy.n_components
        if address in (followers := toy.target.followers(writer, decomposed))
    ]
    return strongest(sources), strongest(targets)


async def answer_inputs(workshop: Workshop, run: Run, request: ToyRequest, gone: Gone) -> ToyAnswer:
    """Outputs, importances and activations for any inputs."""
    watch = Stopwatch()
    config = toy_config(run)
    for row in request.inputs:
        if len(row) != config.n_features:
            raise ServiceError(
                422,
                "bad_input",
                f"An input has {len(row):,} numbers; {run.name} has {config.n_features:,} features",
                "Give one number for each feature.",
            )
    cells = len(request.inputs) * run.info.n_components
    if cells > MAX_CELLS:
        raise ServiceError(
            413,
            "too_large",
            f"{len(request.inputs)} inputs by {run.info.n_components:,} components are more than "
            f"{MAX_CELLS:,} entries",
            "Send fewer inputs at once.",
        )

    def work(_: Report) -> ToyAnswer:
        import torch

        from compute.toys.response import answer

        toy = workshop.toys.get(run)
        inputs = torch.tensor(request.inputs, dtype=next(toy.target.parameters()).dtype)
        found = answer(toy, inputs)
        label = toy.target.label(inputs)
        return ToyAnswer(
            run=run.name,
            outputs=found.outputs.tolist(),
            masked=found.masked.tolist(),
            label=None if label is None else label.tolist(),
            sites=[
                ToySiteAnswer(
                    address=str(site),
                    importance=importance.tolist(),
                    activation=found.activation[site].tolist(),
                )
                for site, importance in found.importance.items()
            ],
            seconds=0,
            peak_bytes=0,
        )

    answered, peak = await workshop.quick(work, gone)
    return answered.model_copy(update={"seconds": watch.seconds, "peak_bytes": peak})


async def evaluate(workshop: Workshop, run: Run, value: float, gone: Gone) -> ToyEvaluation:
    """How well the components make up the model, and how far they are from the known solution."""
    watch = Stopwatch()
    config = toy_config(run)

    def work(_: Report) -> tuple[list[tuple[int, float | None, Fit]], dict[Address, np.ndarray]]:
        from compute.toys.response import answer, measure, sample_inputs, single_features

        toy = workshop.toys.get(run)
        single = single_features(toy, value)
        fits: list[tuple[int, float | None, Fit]] = [(len(single), value, measure(toy, single))]
        if config.data is not None:
            sampled = sample_inputs(config.data, config.n_features, _SAMPLES, _SEED)
            fits.append((len(sampled), None, measure(toy, sampled.to(single))))
        importance = answer(toy, single).importance
        return fits, {site: _numbers(found) for site, found in importance.items()}

    (fits, importance), peak = await workshop.quick(work, gone)
    sites = fits[0][2].sites
    errors = {site: _errors(_expected(config, site), importance[site]) for site in sites}
    known = [found for found in errors.values() if found]
    return ToyEvaluation(
        run=run.name,
        faithfulness=sum(fit.delta_square for fit in sites.values())
        / sum(fit.entries for fit in sites.values()),
        outputs=[_output_errors(count, single_value, fit) for count, single_value, fit in fits],
        sites=[
            ToySiteFit(
                address=str(site),
                faithfulness=fit.delta_square / fit.entries,
                relative=(fit.delta_square / fit.weight_square) ** 0.5 if fit.weight_square else 0.0,
                expected=_pattern(_expected(config, site)),
                errors=errors[site],
            )
            for site, fit in sites.items()
        ],
        errors=[
            ToyErrors(tolerance=tolerance, wrong=sum(found[i].wrong for found in known))
            for i, tolerance in enumerate(TOLERANCES if known else ())
        ],
        seconds=watch.seconds,
        peak_bytes=peak,
    )


def _output_errors(count: int, value: float | None, fit: Fit) -> ToyOutputErrors:
    return ToyOutputErrors(
        inputs="sampled" if value is None else "single_features",
        count=count,
        value=value,
        all_on=fit.all_on,
        with_deltas=fit.with_deltas,
        masked=fit.masked,
        masked_with_deltas=fit.masked_with_deltas,
        nothing=fit.nothing,
        power=fit.power,
        l0={str(site): found.l0 for site, found in fit.sites.items()},
    )


def _numbers(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
