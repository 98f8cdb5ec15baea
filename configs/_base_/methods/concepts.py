# What segmentors with SAM 3 share. Its weights are gated: docs/concepts.md says how to get them.
model = dict(
    type='mmtagclip.ConceptSegmentor',
    sam3=dict(type='mmtagclip.Sam3', model='hf-hub:facebook/sam3'),
    data_preprocessor=dict(type='mmtagclip.CLIPDataPreprocessor'),
)
