# MetaCLIP 2's ViT-H/14, worldwide (CC-BY-NC-4.0, no commercial use). 32 blocks.
backbone = dict(
    encoder=dict(model='ViT-H-14-worldwide-quickgelu', pretrained='metaclip2_worldwide')
)
