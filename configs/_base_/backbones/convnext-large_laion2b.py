# LAION's ConvNeXt-L at 320 pixels (MIT): convolutional, so DMAR is out.
backbone = dict(
    encoder=dict(model='convnext_large_d_320', pretrained='laion2b_s29b_b131k_ft_soup'),
    TagCLIPHead=dict(dmar=None),
)
