_base_ = './scclip_vit-base-p16_openai_voc21.py'
# 24 blocks: the layers that SC-CLIP's authors name for ViT-L.
model = dict(
    encoder=dict(
        model='ViT-L-14-quickgelu',
        last_block=dict(
            similarity_layer=16,
            output_layer=6,
            fusion_layers=(8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18),
            class_token_weight=0.1,
        ),
    )
)
