# The same with the demo model alone: its own patches compare the places. The demo's names are no
# scenes with trees and roads, so there are no contexts.
_base_ = '../backbones/vit-demo.py'
_encoder = dict(type='mmtagclip.CLIPEncoder', **_base_.backbone.encoder)
model = dict(
    type='mmtagclip.ReferenceEncoder',
    encoder=_encoder,
    source=dict(type='mmtagclip.EncoderFeatures', encoder=_encoder),
    contexts=(),
    count=10,
    templates='templates_85',
)
