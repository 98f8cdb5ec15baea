# The demo model: a tiny ViT of 12 blocks, trained on the demo's own world.
_base_ = './vit-base-p16_openai.py'
backbone = dict(encoder=dict(_delete_=True, model='local-dir:{{fileDirname}}/../../../demo/model'))
