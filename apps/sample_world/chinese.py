"""What are the Chinese words and forms of the sample world?"""

# ruff: noqa: E501 - tables of phrases read best one entry to a line

from apps.sample_world.grammar import Events, Grammar, Verb


def _verbs(*phrases: str) -> tuple[Verb, ...]:
    """Chinese verbs have one form: what happened and what may happen read alike."""
    return tuple((phrase, phrase) for phrase in phrases)


CHINESE = Grammar(
    language="zh",
    metrics=(
        ("净利润", 1), ("营业利润", 1), ("营业收入", 1), ("销售额", 1), ("毛利率", 1), ("经营现金流", 1), ("在手订单", 1),
        ("{product}产量", 1), ("市场份额", 1), ("经营亏损", -1), ("净负债", -1), ("{input}采购开支", -1), ("废品率", -1),
        ("客户投诉量", -1), ("单位成本", -1), ("{product}库存积压", -1),
    ),
    rise=_verbs("增长", "上升", "增加", "提高", "攀升"),
    fall=_verbs("下降", "减少", "下滑", "回落", "降低"),
    hoped="期待",
    feared="担心",
    moved=(
        "{company}{period}{metric}同比{verb}{percent}%",
        "{company}表示，{period}公司{metric}{verb}{percent}%",
        "{period}，{company}的{metric}比上年同期{verb}{percent}%",
        "{company}发布公告称，公司{metric}{verb}{percent}%",
        "据{head}介绍，{company}{period}的{metric}{verb}了{percent}%",
    ),
    not_moved=(
        "{company}{period}的{metric}并没有像市场{feeling}的那样{verb}",
        "{company}称，公司{metric}没有出现外界{feeling}的{verb}",
    ),
    steady=(
        "{company}{period}的{metric}与上年同期持平",
        "{company}将于{day}公布{period}的{metric}",
        "{company}表示，{period}公司{metric}基本没有变化",
        "{company}调整了{metric}的计算方法",
    ),
    events={
        "orders": Events(
            good=_verbs("赢得{partner}价值{amount}的订单", "与{partner}续签合同", "击败{rival}拿下{product}合同", "为{product}新增{count}家客户"),
            bad=_verbs("被{rival}抢走价值{amount}的订单", "被{partner}取消合同", "推迟向{partner}交付{product}", "失去{partner}这一客户"),
            neutral=_verbs("参加{site}的{product}招标", "按计划向{partner}交付{product}", "与{partner}签署未约定数量的框架协议"),
        ),
        "products": Events(
            good=_verbs("获准在海外销售{product}", "售罄首批{product}", "凭借{product}获得设计奖", "将{product}的质保期延长一倍"),
            bad=_verbs("召回{count}批{product}", "因缺陷停售{product}", "发现{product}存在故障", "将{product}撤出市场"),
            neutral=_verbs("在{site}展会上展示{product}", "更换{product}系列的名称", "把{product}展厅搬到{site}"),
        ),
        "staff": Events(
            good=_verbs("在{site}招聘{count}名员工", "在创纪录的一年之后上调工资", "结束{site}的罢工", "在{site}开设培训中心"),
            bad=_verbs("在{site}裁员{count}人", "因内部纠纷失去财务总监", "让{count}名工人停薪回家", "在{site}遭遇罢工"),
            neutral=_verbs("任命{new_head}为{site}办事处负责人", "邀请员工参加{day}的会议", "把人事部门迁至{site}"),
        ),
        "finance": Events(
            good=_verbs("将股息提高{percent}%", "提前偿还{amount}贷款", "以更优条件取得{amount}授信", "获得更高的信用评级"),
            bad=_verbs("取消派发股息", "未能按期支付{amount}利息", "违反{amount}贷款的约定", "对{second_product}业务计提{amount}减值"),
            neutral=_verbs("在{town}召开年度股东大会", "将股息登记日定为{day}", "把账户从{rival}转到另一家银行"),
        ),
        "law": Events(
            good=_verbs("在专利案中胜诉{rival}", "与{partner}和解且无需赔偿", "取得{site}工厂的许可证", "被免除{amount}罚款"),
            bad=_verbs("缴纳{amount}罚款", "在专利案中败给{rival}", "受到税务调查", "被吊销{site}的许可证"),
            neutral=_verbs("答复{site}主管部门的询问", "向法院提交年度报告", "向主管部门索取规定清单"),
        ),
        "plants": Events(
            good=_verbs("在{site}建成{product}工厂", "提前恢复{site}工厂的生产", "扩建{town}的厂房", "使{site}工厂达到满产"),
            bad=_verbs("关闭{site}的工厂", "因火灾停止生产{product}", "在{site}出现{input}短缺", "因停电损失{count}小时产量"),
            neutral=_verbs("把仓库从{town}迁到{site}", "对{site}工厂进行例行年检", "在{site}租用一处厂房"),
        ),
    },
    happened=(
        "{company}{verb}", "{company}{day}表示，公司已{verb}", "{period}，{company}{verb}", "据{head}透露，{company}已{verb}",
        "总部位于{town}的{company}于{day}{verb}", "{trade}企业{company}{verb}",
    ),
    may_happen=(
        "{company}可能在{year}年底之前{verb}", "分析人士预计{company}将{verb}", "{company}即将{verb}", "{analyst}认为，{company}会{verb}",
    ),
    did_not_happen=(
        "{company}并没有像外界{feeling}的那样{verb}",
        "与许多人{feeling}的相反，{company}不会{verb}",
    ),
    unknown=("{company}拒绝透露是否会{verb}", "目前尚不清楚{company}是否会{verb}"),
    contrast=("虽然{aside}，但是{main}", "尽管{aside}，{main}", "{aside}，不过{main}"),
    periods=("第一季度", "第二季度", "第三季度", "第四季度", "上半年", "下半年", "前九个月", "全年"),
    days=("周一", "周二", "周三", "周四", "周五", "3月3日", "5月12日", "6月20日", "10月9日", "12月1日"),
    amounts=("{number}万元", "{number}亿元", "{number}万美元", "{number}00万元"),
    end="。",
)  # fmt: skip
