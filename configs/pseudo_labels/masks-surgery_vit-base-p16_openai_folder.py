# The same from surgery maps in the place of gradient CAMs; the student looks for its labels here.
# The CRF stays, since `confidence` is that of its probabilities.
_base_ = './masks_vit-base-p16_openai_folder.py'
model = dict(cam=dict(type='mmtagclip.SurgeryCAM'), affinity=dict(box_threshold=0.79))
