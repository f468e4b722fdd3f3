"""Ready-made texts: instructions by recipe, and questions for a vision-language model."""

OWN = "own text"

INSTRUCTIONS = {
    "jewellery retouching (English)": "Professional jewellery retouching: raise the lustre of "
    "metal and stones, clean all surfaces, keep the arrangement exactly as it is, a flawless "
    "studio-lit commercial picture.",
    "珠宝精修 (中文)": "专业珠宝精修：提升金属和宝石的光泽，清洁所有表面，保持原有摆放不变，"
    "呈现无瑕的影棚商业大片。",
    "product retouching (English)": "Professional product retouching: remove dust, scratches and "
    "reflections, even out the light, keep shape, label and colours, a clean commercial picture.",
    "产品精修 (中文)": "专业产品精修：去除灰尘、划痕和杂乱反光，光线均匀，"
    "保持造型、标签和颜色不变，呈现干净的商业图。",
    "relight (English)": "Relight the scene with soft studio light and natural shadows, keep "
    "everything else unchanged.",
    "重新打光 (中文)": "用柔和的影棚光和自然阴影为场景重新打光，其他一切保持不变。",
    "texture enhancer (English)": "Enhance the texture: restore fine, sharp, realistic surface "
    "detail, keep composition and colours unchanged.",
    "质感增强 (中文)": "增强质感：还原细腻、清晰、真实的表面细节，构图和颜色保持不变。",
    "style transfer (English)": "Transfer into the trained style, keep the subject and the "
    "composition.",
    "风格迁移 (中文)": "转换为所训练的风格，保持主体和构图。",
    "line art to render (English)": "Turn the line art into a finished, realistic render, follow "
    "the lines exactly.",
    "线稿转渲染 (中文)": "将线稿转换为完整的写实渲染图，严格遵循线条。",
    "old photo restoration (English)": "Restore the old photo: remove scratches and stains, bring "
    "back sharpness and natural colours, keep every face as it is.",
    "老照片修复 (中文)": "修复老照片：去除划痕和污渍，恢复清晰度和自然色彩，保持人物面部不变。",
}
"""Master instructions by recipe. "The trained style" is for the user to replace by its name."""

PROMPTS = {
    "short description": "Describe the picture in one short sentence: the subject, its material "
    "and the background. Name only what can be seen. No opinion, no introduction.",
    "简短描述 (中文)": "用一句简短的中文描述图片：主体、材质和背景。"
    "只写看得见的内容，不要评价，不要开场白。",
    "detailed description": "Describe the picture in two or three sentences: subject, material, "
    "arrangement, background, light and colours. Name only what can be seen. No introduction.",
    "structured description": "Describe the picture as one line of short phrases, separated by "
    "commas, in this order: subject, action, clothing or features, scene, style, light, colours. "
    "Leave out what is not there. No labels, no introduction.",
    "结构化描述 (中文)": "按以下顺序用中文短语描述图片，用逗号隔开，写成一行："
    "主体，动作，服饰或特征，场景，风格，光线，色彩。没有的就省略，不要写标签，不要开场白。",
    "propose the instruction": "The last picture is an edited version of the one before it. Write "
    "one short, general instruction in the imperative that turns the first into the last. Do not "
    "describe the subject. No introduction.",
    "提出编辑指令 (中文)": "最后一张图是前一张图编辑后的结果。"
    "用中文写一条简短、通用的编辑指令，把前图变成后图。不要描述主体，不要开场白。",
    "describe the result with its edit": "The last picture is an edited version of the one before "
    "it. Describe the last picture in two or three sentences, subject, surroundings and light, and "
    "say in them what was changed. No introduction.",
}
"""What to ask a model that follows instructions. The last three need both sides."""

WHAT_CHANGED = (
    "The last picture is an edited version of the one before it. Say in one sentence, in the "
    "imperative, what was changed and how: the thing, its place, its new colour, material or "
    "light. Leave out what stayed as it was. No introduction."
)
"""For each pair its own instruction."""


def chosen(preset: str, own: str, presets: dict[str, str]) -> str:
    """The user's own text if there is one, else the preset's."""
    return own.strip() or presets.get(preset, "")
