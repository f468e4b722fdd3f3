// While a run trains, and after, its node shows how it goes: loss, held-out loss, what they say.
// Every event of the server holds the whole chart, so a page that was just opened has it too.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { element } from "./shared/dom.mjs";
import { chinese } from "./shared/graph.mjs";
import { lossChart, rounded, signed } from "./shared/loss_chart.mjs";
import { show } from "./shared/panel.mjs";

const [WIDTH, HEIGHT] = [340, 230]; // what is drawn; the node scales it to its own width

const ENGLISH = { rate: "learning rate", memory: "memory", gain: "held-out" };

const CHINESE = {
  rate: "学习率", memory: "显存", gain: "验证损失",
  // the findings, by their kinds (evaluation/progress/diagnosis.py); in English they come with the event
  rate_too_high: "学习率过高：训练损失来回摆动，有 {times} 次上升，最多 {rise}%，超出单步噪声的范围。请将学习率减半。",
  rate_too_high_held_out: "学习率过高：验证损失上下跳动 {times} 次，最多为基础模型的 {rise}%。请将学习率减半。",
  memorising: "过拟合（在背图）：自第 {step} 步起，验证损失上升了基础模型的 {rise}%（至少 {low}%），而训练损失下降了 {fall}%。请使用第 {step} 步附近的检查点；增加图片对、减少步数或降低 rank 会有帮助。",
  held_out_rises: "已过最佳点：自第 {step} 步起，验证损失上升了基础模型的 {rise}%（至少 {low}%）。请使用第 {step} 步附近的检查点。",
  improving: "仍在进步：最近三分之一的步数里，验证损失又下降了基础模型的 {fall}%（{low} 至 {high}%），现为 {change}%。继续训练应有帮助。",
  improving_training: "仍在进步：最近三分之一的步数里，训练损失下降了 {fall}%（至少 {low}%）。继续训练可能有帮助。",
  stalled: "过早停滞：自第 {step} 步（共 {done} 步）起，验证损失停在相对基础模型 {change}%。请尝试更高的学习率或 rank，并检查图片对和描述；仅增加步数没有用。",
  stalled_training: "过早停滞：{done} 步里训练损失只下降了 {fall}%，至多 {high}%。请尝试更高的学习率，并检查图片对和描述。",
  levelled: "已趋平稳：自第 {step} 步起，验证损失停在相对基础模型 {change}%。继续同样的训练收益很小。",
  levelled_training: "已趋平稳：训练损失共下降 {fall}%，最近三分之一的步数里不到 {high}%。继续同样的训练收益很小。",
  levelled_as_rate_fell: "随学习率下降而趋平：自第 {step} 步起，验证损失停在相对基础模型 {change}%，但最近三分之一的步数里学习率只有峰值的 {rate}%。计划更多步数的训练可能还有提升。",
  undecided: "还看不出趋势：最近三分之一的步数里，验证损失变化了基础模型的 {change}%（{low} 至 {high}%）。",
  undecided_training: "还看不出趋势：最近三分之一的步数里，训练损失变化了 {change}%（{low} 至 {high}%），在单步噪声之内。",
  too_early: "现在判断还太早：{done} 步，{tests} 次验证损失测量。",
  few_held_out: "验证图片对太少：只有 {pairs} 对，无法判断是否过拟合。请至少留出 3 对，最好 5 对。",
};

const said = ({ kind, numbers, text }, words) =>
  words[kind]?.replace(/\{(\w+)\}/g, (_, name) => numbers[name]) ?? text;

/** Step, pace and time left are in the status line, for every client of the server. */
function facts(run, text) {
  const [, change, low, high] = run.held_out.at(-1) ?? [];
  const interval = low == null ? "" : ` (${rounded(low)} … ${rounded(high)})`;
  return [
    `${text.rate} ${run.learning_rate.toExponential(1)}`,
    run.memory && `${text.memory} ${(run.memory / 2 ** 30).toFixed(1)} GiB`,
    change !== undefined && `${text.gain} ${signed(change)}${interval}`,
  ].filter(Boolean).join(" · ");
}

app.registerExtension({
  name: "kontext.chart",
  setup() {
    api.addEventListener("kontext.progress", ({ detail: run }) => {
      const text = chinese() ? CHINESE : ENGLISH;
      show(
        run, "chart",
        element("div", {}, facts(run, text)),
        lossChart(run, WIDTH, HEIGHT, chinese()),
        ...run.findings.map((finding) => element("div", {}, said(finding, text))),
      );
    });
  },
});
