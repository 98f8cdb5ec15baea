"""Export the dense encoder and its attention statistics as an ONNX graph of dynamic size."""

import inspect
import io
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..extras import require
from ..files import write_whole
from .encoder import DenseEncoder
from .towers.open_clip_vit import OpenCLIPViT

INPUTS = ('images',)
OUTPUTS = ('patches', 'class_token', 'attention', 'votes')
# Before 2.5, the tracer is the only exporter of torch, and no argument selects it.
TRACER: dict[str, Any] = (
    {'dynamo': False} if 'dynamo' in inspect.signature(torch.onnx.export).parameters else {}
)


class DenseGraph(nn.Module):
    """:class:`DenseEncoder` without its reused buffers, which a graph can't contain.

    Args:
        encoder: The encoder, float32.
        layers: Layers whose mean attention map is an output.

    Raises:
        ValueError: The encoder has another dtype, its tower is not open_clip's ViT, the model
            does not have one of the layers, or the last block reads the images themselves.
    """

    def __init__(self, encoder: DenseEncoder, layers: Sequence[int]) -> None:
        super().__init__()
        if encoder.dtype != torch.float32:
            raise ValueError(f'the export needs a float32 encoder, not {encoder.dtype}')
        if not isinstance(encoder.tower, OpenCLIPViT) or encoder.last_block is None:
            raise ValueError(
                f"{encoder.name} can't be exported: its image tower is not open_clip's ViT"
            )
        if encoder.last_block.needs_pixels or encoder.last_block.needs_regions:
            raise ValueError(
                f'{type(encoder.last_block).__name__} reads the images themselves, '
                "so it can't be exported"
            )
        self.layers = sorted(set(layers))
        if not self.layers or not all(0 <= one < encoder.num_blocks for one in self.layers):
            raise ValueError(f'layers must be in 0 to {encoder.num_blocks - 1}, not {layers}')
        self.encoder = encoder

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Encode.

        Args:
            images: ``(B, 3, H, W)`` normalised; H and W are multiples of the patch size.

        Returns:
            ``patches`` ``(B, N, D)`` and ``class_token`` ``(B, D)`` of unit length, the
            mean map of the layers ``(B, N, N)``, and ``votes`` ``(B, N, N)`` as whole
            numbers in float32.
        """
        encoder = self.encoder
        assert encoder.last_block is not None
        votes = mean = torch.zeros((), device=images.device)

        def look(index: int, q: Tensor, k: Tensor, v: Tensor | None) -> None:
            nonlocal votes, mean
            logits = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3)
            attention = logits.softmax(dim=-1).mean(dim=1)[:, 1:, 1:]
            votes = votes + (attention > attention.mean(dim=(1, 2), keepdim=True)).float()
            if index in self.layers:
                mean = mean + attention

        features = encoder.finish(encoder.walk(images, look))
        patches, class_token = (F.normalize(one, dim=-1) for one in features[:2])
        return patches, class_token, mean / len(self.layers), votes


def export_onnx(encoder: DenseEncoder, path: str | Path, layers: Sequence[int]) -> None:
    """Write the encoder as an ONNX file for images of any number and size.

    The file's metadata contain, as JSON, ``mean`` and ``std`` of the normalisation,
    ``patch_size``, ``logit_scale``, ``layers`` and ``num_blocks``.

    Args:
        encoder: The encoder, float32.
        path: The file to write.
        layers: Layers whose mean attention map is an output; TagCLIP uses 8 to 10.

    Raises:
        ImportError: onnx is not installed.
        ValueError: See :class:`DenseGraph`; or the last block has a step that ONNX does not
            support (SC-CLIP's quantile).
    """
    require('onnx', 'onnx', 'the export')
    import onnx

    graph = DenseGraph(encoder, layers).eval()
    patch = encoder.patch_size
    example = torch.zeros(2, 3, 5 * patch, 7 * patch)
    free = {
        'images': {0: 'B', 2: 'H', 3: 'W'},
        'patches': {0: 'B', 1: 'N'},
        'class_token': {0: 'B'},
        'attention': {0: 'B', 1: 'N', 2: 'N'},
        'votes': {0: 'B', 1: 'N', 2: 'N'},
    }
    device = next(encoder.parameters()).device
    buffer = io.BytesIO()
    with warnings.catch_warnings():  # the tracer warns of constant sizes, which are intended
        warnings.simplefilter('ignore')
        try:
            torch.onnx.export(
                graph,
                (example.to(device),),
                buffer,  # type: ignore[arg-type]
                input_names=list(INPUTS),
                output_names=list(OUTPUTS),
                dynamic_axes=free,
                opset_version=17,
                **TRACER,
            )
        except torch.onnx.errors.UnsupportedOperatorError as error:
            raise ValueError(
                f"{type(encoder.last_block).__name__} can't be exported: {error}"
            ) from None
    model = onnx.load_from_string(buffer.getvalue())
    facts = {
        'mean': encoder.mean,
        'std': encoder.std,
        'patch_size': patch,
        'logit_scale': encoder.logit_scale,
        'layers': graph.layers,
        'num_blocks': encoder.num_blocks,
    }
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in facts.items()})
    write_whole(path, model.SerializeToString())
