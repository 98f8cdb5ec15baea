"""Label Studio's label config: names and controls of an image."""

from dataclasses import dataclass
from xml.etree import ElementTree

# What shapes are in Label Studio: the tag of the config that makes them.
CONTROLS = {'masks': 'BrushLabels', 'polygons': 'PolygonLabels', 'boxes': 'RectangleLabels'}


@dataclass(frozen=True)
class LabelConfig:
    """What predictions need of a label config.

    Attributes:
        control: Name of the control that they fill.
        image: Name of its image.
        key: Key of the image's address in a task's data.
        shapes: What masks become, see :data:`CONTROLS`; None where tags become choices.
        names: Class names, in order.
    """

    control: str
    image: str
    key: str
    shapes: str | None
    names: tuple[str, ...]


def read_label_config(text: str) -> LabelConfig:
    """Read a label config: its first control of an image that predictions can fill.

    Args:
        text: The config, XML.

    Raises:
        ValueError: It is no such config, or it has no such control.
    """
    if '<!' in text.replace('<!--', ''):
        raise ValueError('a label config has no document type or entities')
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f'the label config is no XML: {error}') from None
    keys = {one.get('name'): str(one.get('value')).lstrip('$') for one in root.iter('Image')}
    shapes = {control.lower(): shape for shape, control in CONTROLS.items()}
    for control in root.iter():
        kind, image = control.tag.lower(), control.get('toName')
        if image not in keys or kind not in (*shapes, 'choices'):
            continue
        child = 'Choice' if kind == 'choices' else 'Label'
        names = tuple(str(one.get('value')) for one in control.iter(child) if one.get('value'))
        if names:
            return LabelConfig(
                str(control.get('name')), str(image), keys[image], shapes.get(kind), names
            )
    raise ValueError(
        f'the label config has no {", ".join(CONTROLS.values())} or Choices with names of an Image'
    )
