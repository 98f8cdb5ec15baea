_base_ = './tag-guided_demo.py'
# Thresholds chosen on the demo's own scenes: what `mmtagclip demo` shows.
model = dict(head=dict(background_threshold=0.9), tagger=dict(head=dict(threshold=0.3)))
