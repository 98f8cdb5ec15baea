# CLIP-DINOiser (ECCV 2024): value-only patches, averaged by a similarity that DINO taught. The
# weights are checkpoints/last.pt of https://github.com/wysoczanska/clip_dinoiser, which say no
# CLIP; those of tools/train.py say theirs.
_base_ = './direct.py'
model = dict(
    encoder=dict(
        last_block=dict(type='mmtagclip.SelfOnlyLastBlock'),
        pooling=dict(
            type='mmtagclip.LearntPooling',
            checkpoint='data/clip_dinoiser/last.pt',
        ),
        positions='bicubic',
    ),
    head=dict(logit_scale=100.0, average='probabilities'),
    windows=dict(size=448, stride=224),
)
