# PASCAL Context, 59 classes; pixels of the background count for nothing.
_base_ = './pascal-context60.py'
title = 'PASCAL Context, 59 classes'
dataset = dict(type='PascalContextDataset59')
parts = dict(
    SegTextHead=dict(_delete_=True, classes='pascal_context'),
    CLSSeg=dict(with_background=False),
    ConceptSegmentor=dict(_delete_=True, classes='seg_pascal_context_activesam'),
)
