use proptest::prelude::*;

use crate::genotype::tests::any_genotype;
use crate::{CellKind, Genotype, Preset};

/// Another way to write DARTS_V2 with the same meaning.
fn check_same(text: &str) {
    let expected = Preset::find("DARTS_V2").unwrap().genotype();
    match text.parse::<Genotype>() {
        Ok(genotype) => assert_eq!(genotype, expected, "{text}"),
        Err(error) => panic!("{error}"),
    }
}

/// The message about a text, without the list of primitives.
fn check_error(text: &str, expected: &str) {
    let message = text.parse::<Genotype>().unwrap_err().to_string();
    assert_eq!(message, expected);
}

const NORMAL: &str = "[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), \
    ('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), \
    ('dil_conv_3x3', 2)]";
const REDUCE: &str = "[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), \
    ('max_pool_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), \
    ('max_pool_3x3', 1)]";
const NESTED_NORMAL: &str = "[[('sep_conv_3x3', 0), ('sep_conv_3x3', 1)], \
    [('sep_conv_3x3', 0), ('sep_conv_3x3', 1)], [('sep_conv_3x3', 1), ('skip_connect', 0)], \
    [('skip_connect', 0), ('dil_conv_3x3', 2)]]";

fn flat(normal: &str, normal_concat: &str) -> String {
    let reduce = "reduce=[('skip_connect', 0), ('skip_connect', 1)], reduce_concat=[2]";
    format!("Genotype(normal={normal}, normal_concat={normal_concat}, {reduce})")
}

#[test]
fn the_flat_form_is_printed_as_it_is_published() {
    let text = format!(
        "Genotype(normal={NORMAL}, normal_concat=range(2, 6), \
         reduce={REDUCE}, reduce_concat=range(2, 6))"
    );
    check_same(&text);
    assert_eq!(Preset::find("DARTS_V2").unwrap().genotype().to_flat().unwrap(), text);
}

#[test]
fn ways_to_write_the_same() {
    let concat = "normal_concat = [2, 3, 4, 5,], reduce_concat=range( 2,6 ,)";
    check_same(&format!("DARTS_V2 = Genotype({concat}, reduce={REDUCE}, normal={NORMAL})"));
    check_same(&format!(
        "\n\tGenotype (\r\n normal={NESTED_NORMAL},{concat},reduce={REDUCE},\n)\n"
    ));
    let double_quotes = NORMAL.replace('\'', "\"").replace("),", " ,), # a ) comment (\n");
    check_same(&format!("# [\nGenotype(normal={double_quotes}, reduce={REDUCE}, {concat}) # end"));
    check_same(&Preset::find("DARTS_V2").unwrap().genotype().to_json());
    check_same(&format!(" {}", Preset::find("DARTS_V2").unwrap().genotype().to_json()));
}

/// Forms that public code prints: logs, `str` of dicts and ordered dicts, JSON of a named tuple.
#[test]
fn as_public_code_prints_it() {
    let call = format!(
        "Genotype(normal={NORMAL}, normal_concat=range(2, 6), reduce={REDUCE}, \
         reduce_concat=range(2, 6))"
    );
    check_same(&format!("\u{feff}{call}\r\n"));
    check_same(&call.replace("range(2, 6)", "list(range(2, 6))"));
    check_same(&call.replace("range(2, 6)", "tuple(range(2, 6),)"));
    check_same(&call.replace("range(2, 6)", "(2, 3, 4, 5)"));
    check_same(&call.replace("[(", "((").replace(")]", "))"));
    check_same(&call.replace(NORMAL, &NESTED_NORMAL.replace('[', "(").replace(']', ")")));
    check_same(&call.replace(", 1)", ", np.int64(1))").replace(", 2)", ", numpy.int64( 2 ))"));
    for before in
        ["04/31 11:52:03 AM genotype = ", "epoch #3: ", "\"", "a, b = 1, 2\nprint(", "{1: "]
    {
        check_same(&format!("{before}{call}"));
        check_same(&format!("{before}{call} (epoch 3)\n04/31 11:52:04 AM epoch 4 lr 1e-1\n"));
    }
    let published = "from collections import namedtuple\n\nGenotype = namedtuple('Genotype', 'normal \
                     normal_concat reduce reduce_concat')\n\nPRIMITIVES = ['none']\n\n";
    check_same(&format!("{published}# OLD = {call}\nDARTS_V2 = {call}\n\nDARTS = DARTS_V2\n"));

    let dict = format!(
        "{{'normal': {NORMAL}, 'normal_concat': range(2, 6), 'reduction': {REDUCE}, \
         'reduction_concat':range(2, 6)}}"
    );
    check_same(&dict);
    check_same(&format!("ADV_RUSH = {dict}"));
    check_same(&format!("12:01 found OrderedDict({dict})"));
    check_same(&format!("dict({})", &call["Genotype(".len()..call.len() - 1]));
    let pairs = dict.replace('{', "[(").replace('}', ")]").replace("': ", "', ");
    let pairs =
        pairs.replace("':", "', ").replace(", 'norm", "), ('norm").replace(", 'red", "), ('red");
    check_same(&format!("OrderedDict({pairs})"));
    let json = dict.replace('(', "[").replace(')', "]").replace("range[2, 6]", "[2, 3, 4, 5]");
    check_same(&json.replace('\'', "\""));
}

#[test]
fn one_genotype_is_read_and_no_more() {
    let call = flat("[('skip_connect', 0), ('skip_connect', 1)]", "[2]");
    let message = format!("epoch 1 {call}\nepoch 2 {call}").parse::<Genotype>().unwrap_err();
    let expected =
        "line 2, column 9: a second genotype begins here, leave one of the two in the text";
    assert!(message.to_string().starts_with(expected), "{message}");
    for (text, expected) in [
        ("{'normal_concat': 3}", "column 19: expected `range(...)` or a list of states"),
        (
            "OrderedDict([('normal_concat', [2]), ('norm', [])])",
            "expected `normal`, `normal_concat`",
        ),
        ("Genotype(normal_concat=list(list([2])))", "expected `range(...)` or a list of states"),
        ("dict(normal_concat=(2, x))", "expected the number of a state, found `x`"),
        ("OrderedDict({'normal_concat': [2]})", "the keyword `normal` is missing"),
    ] {
        let message = text.parse::<Genotype>().unwrap_err().to_string();
        assert!(message.contains(expected), "{expected} in {message}");
    }
}

#[test]
fn states_are_joined_in_the_order_of_the_text() {
    let picks =
        "[('skip_connect', 0), ('skip_connect', 1), ('skip_connect', 0), ('skip_connect', 1)]";
    let genotype: Genotype = flat(picks, "[3, 2]").parse().unwrap();
    assert_eq!(genotype.normal.concat, [3, 2]);
    assert!(genotype.to_string().contains("normal_concat=[3, 2], reduce="));
    assert!(genotype.to_string().ends_with("reduce_concat=range(2, 3))"));
}

#[test]
fn a_genotype_that_is_not_flat() {
    let text = "Genotype(normal=[[('skip_connect', 0)]], normal_concat=range(2, 3), \
        reduce=[[('skip_connect', 0), ('skip_connect', 1)]], reduce_concat=range(2, 3))";
    let genotype: Genotype = text.parse().unwrap();
    assert_eq!(genotype.to_nested().unwrap(), text);
    assert_eq!(genotype.to_string(), text);
    assert_eq!(
        genotype.to_flat().unwrap_err().to_string(),
        "the flat form cannot express the normal cell: node 0 has 1 picks, expected 2 (json can \
         express any genotype)"
    );
}

#[test]
fn the_text_of_nas_bench_201_is_a_genotype_of_one_cell() {
    let text = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|";
    let genotype: Genotype = text.parse().unwrap();
    assert_eq!((genotype.reduction.is_none(), genotype.to_string()), (true, text.to_owned()));
    // The output of `Structure`, and the same text quoted in lists of architectures.
    for around in [format!("Structure(4 nodes with {text})"), format!("arch = '{text}',\n")] {
        assert_eq!(around.parse::<Genotype>().unwrap(), genotype, "{around}");
    }
    let form = "the nested form cannot express the reduction cell: the genotype has none, and the form has two \
                cells (json can express any genotype)";
    assert_eq!(genotype.to_nested().unwrap_err().to_string(), form);
    let pair = Preset::find("DARTS_V2").unwrap().genotype();
    let form = "the nas-bench-201 form cannot express the reduction cell: it has one kind of cell, the normal \
                one (json can express any genotype)";
    assert_eq!(pair.to_nas_bench_201().unwrap_err().to_string(), form);
    assert!(!genotype.to_json().contains("reduction"));
    let wrong = text.replace("skip_connect", "skip").parse::<Genotype>().unwrap_err().to_string();
    assert!(wrong.starts_with("line 1, column 26: unknown primitive `skip`"), "{wrong}");
}

#[test]
fn syntax_errors_show_the_place() {
    check_error("", &at(1, 1, START, "the end of the text", "", ""));
    check_error("x = 3", &at(1, 5, START, "`3`", "x = 3", "    "));
    check_error("Genotyp(", &at(1, 1, START, "`Genotyp`", "Genotyp(", ""));
    check_error("Genotype[", &at(1, 9, "`(`", "`[`", "Genotype[", "        "));
    check_error(
        "Genotype(\n  norm=[])",
        &at(
            2,
            3,
            "`normal`, `normal_concat`, `reduce` or `reduce_concat`",
            "`norm`",
            "  norm=[])",
            "  ",
        ),
    );
    check_error(
        "Genotype(normal=[('sep_conv_3x3', 0) ('sep_conv_3x3', 1)]",
        &at(
            1,
            38,
            "`,` or `]`",
            "`(`",
            "Genotype(normal=[('sep_conv_3x3', 0) ('sep_conv_3x3', 1)]",
            &" ".repeat(37),
        ),
    );
    check_error(
        "Genotype(\tnormal=[(sep",
        &at(
            1,
            20,
            "the name of a primitive in quotes",
            "`sep`",
            "Genotype(\tnormal=[(sep",
            "         \t         ",
        ),
    );
    check_error(
        "Genotype(normal=[('skip_connect', -1",
        &at(
            1,
            35,
            "the number of a state",
            "`-`",
            "Genotype(normal=[('skip_connect', -1",
            &" ".repeat(34),
        ),
    );
    check_error(
        "Genotype(normal_concat=99999999999999999999",
        &at(
            1,
            24,
            "`range(...)` or a list of states",
            "`99999999999999999999`",
            "Genotype(normal_concat=99999999999999999999",
            &" ".repeat(23),
        ),
    );
}

const START: &str = "`Genotype(...)`, or json that begins with `{`";

fn at(line: usize, column: usize, expected: &str, found: &str, text: &str, indent: &str) -> String {
    format!(
        "line {line}, column {column}: expected {expected}, found {found}\n  | {text}\n  | {indent}^"
    )
}

#[test]
fn faults_of_the_cell_show_the_place() {
    let two = "[('skip_connect', 0), ('skip_connect', 1)]";
    let starts = |text: &str, expected: &str| {
        let message = text.parse::<Genotype>().unwrap_err().to_string();
        assert_eq!(message.lines().next(), Some(expected));
        assert_eq!(message.lines().count(), 3);
    };
    let flat_normal = |normal: &str| flat(normal, "range(2, 3)");
    starts(
        &flat_normal("[[('skip_connect', 0), ('none', 1)]]"),
        "line 1, column 42: `none` cannot be picked",
    );
    starts(
        &flat_normal("[('skip_connect', 0), ('skip_connect', 2)]"),
        "line 1, column 56: state 2 does not exist yet, allowed: 0 to 1",
    );
    starts(
        &flat_normal("[('skip_connect', 0)]"),
        "line 1, column 37: expected one more pick: the flat form has two for each node, found 1",
    );
    starts(&flat_normal("[]"), "line 1, column 18: a cell needs at least one node");
    starts(&flat_normal("[[]]"), "line 1, column 43: state 2 is a node without picks");
    starts(
        &flat_normal("[('none', 1), ('none', 0)]"),
        "line 1, column 68: the output needs at least one node",
    );
    starts(
        &flat_normal("[('skip_connect', 2, 0), ('skip_connect', 1)]"),
        "line 1, column 44: expected the node as well, as in other picks of this list",
    );
    starts(
        &flat_normal("[('skip_connect', 1, 0)]"),
        "line 1, column 35: state 1 is not a node, allowed: 2 to 65",
    );
    starts(
        &flat_normal("[('skip_connect', 99999999, 0)]"),
        "line 1, column 35: state 99999999 is not a node, allowed: 2 to 65",
    );
    starts(
        &flat_normal("[[('skip_connect', 2, 0)]]"),
        "line 1, column 21: a pick names its node, which is told by the list around it",
    );
    starts(
        &flat(two, "range(2, 9999999999)"),
        "line 1, column 84: state 3 is not a node, allowed: 2 to 2",
    );
    starts(&flat(two, "[1]"), "line 1, column 76: state 1 is not a node, allowed: 2 to 2");
    starts(&flat(two, "[2, 2]"), "line 1, column 79: state 2 is joined twice");
    starts(&flat(two, "[]"), "line 1, column 76: the output needs at least one node");
    starts(&flat(two, "range(3, 2)"), "line 1, column 84: the output needs at least one node");
    starts(
        &format!("Genotype(normal={two}, normal={two})"),
        "line 1, column 61: this keyword comes twice",
    );
    starts(
        &format!("Genotype(normal={two})"),
        "line 1, column 59: the keyword `normal_concat` is missing",
    );
    starts(&(flat(two, "[2]") + ")"), "line 1, column 149: expected nothing more, found `)`");
    starts(
        "Genotype(normal=[('skip_connect",
        "line 1, column 19: this quote is not closed on its line",
    );
}

#[test]
fn long_lines_are_cut_around_the_place() {
    let text = flat(&NORMAL.replace("('dil_conv_3x3', 2)", "('dil_conv_3x3', 7)"), "range(2, 6)");
    check_error(
        &text,
        "line 1, column 182: state 7 does not exist yet, allowed: 0 to 4\n  \
         | ...', 0), ('skip_connect', 0), ('dil_conv_3x3', 7)], normal_concat=range(2, 6), reduce=[('ski...\n  \
         |                                                 ^",
    );
}

#[test]
fn json_errors_have_a_line() {
    let error = |text: &str| match text.parse::<Genotype>().unwrap_err() {
        crate::Error::Json(source) => source.to_string(),
        other => panic!("{other}"),
    };
    let json = Preset::find("DARTS_V2").unwrap().genotype().to_json();
    let unknown = error(&json.replacen("skip_connect", "skip", 1));
    assert!(unknown.starts_with("unknown variant `skip`, expected one of `none`, `max_pool_3x3`"));
    assert!(unknown.contains("at line "), "{unknown}");
    let invalid = error(&json.replacen("\"from\": 0", "\"from\": 2", 1));
    assert!(invalid.starts_with("node 0, pick 0: state 2 does not exist yet"), "{invalid}");
    assert!(invalid.contains("at line "), "{invalid}");
    assert!(error("{\"normal\": 1}").contains("at line 1"));
}

proptest! {
    #[test]
    fn printing_and_reading_gives_the_same(genotype in any_genotype()) {
        prop_assert_eq!(genotype.to_nested().is_ok(), genotype.reduction.is_some());
        prop_assert_eq!(&genotype.to_json().parse::<Genotype>().unwrap(), &genotype);
        prop_assert_eq!(&genotype.to_string().parse::<Genotype>().unwrap(), &genotype);
        let forms = [
            genotype.to_flat(),
            genotype.to_nested(),
            genotype.to_triples(),
            genotype.to_every_edge(),
            genotype.to_nas_bench_201(),
        ];
        for form in forms {
            let Ok(text) = form else { continue };
            let again = text.parse::<Genotype>();
            prop_assert_eq!(again.as_ref().map_err(ToString::to_string), Ok(&genotype), "{}", text);
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        let _ = text.parse::<Genotype>().map_err(|error| error.to_string());
    }

    #[test]
    fn nor_does_text_made_of_the_right_tokens(
        tokens in prop::collection::vec(
            prop::sample::select(vec![
                "Genotype", "(", ")", "[", "]", ",", "=", "normal", "reduce", "normal_concat",
                "reduce_concat", "range", "'skip_connect'", "\"none\"", "0", "2", "3", "#", "\n",
                "'", "é", "18446744073709551615", "{", "}", ":", "OrderedDict", "dict", "'normal'",
                "'reduction_concat'", "list", "tuple", "np.", "\u{feff}", "0.5", "-1e3",
            ]),
            0..60,
        )
    ) {
        let text = format!("Genotype(normal={}", tokens.concat());
        let _ = text.parse::<Genotype>().map_err(|error| error.to_string());
    }

    #[test]
    fn nor_does_a_changed_genotype(
        genotype in any_genotype(),
        form in 0_usize..4,
        before in ".{0,8}",
        position in any::<prop::sample::Index>(),
        length in 0_usize..6,
        insert in ".{0,3}",
    ) {
        let nested = genotype.to_nested().unwrap_or_else(|_| genotype.to_string());
        let dict = nested.replace("Genotype(", "{'").replace(')', "]").replace(
            ", normal_concat", ", 'normal_concat").replace(", red", ", 'red").replace('=', "': ");
        let forms = [genotype.to_string(), nested, genotype.to_json(), dict];
        let text = format!("{before}{}", forms[form]);
        let boundary = |at: usize| (at..).find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        let start = boundary(position.index(text.len()));
        let end = boundary(text.len().min(start + length));
        let changed = format!("{}{insert}{}", &text[..start], &text[end..]);
        if let Ok(genotype) = changed.parse::<Genotype>() {
            prop_assert!(genotype.validate().is_ok());
        }
    }
}

/// `FairDARTS_g`: no edge enters state 3, which state 4 would read.
#[test]
fn triples_of_fair_darts() {
    let text = "FairDARTS_g = Genotype(normal=[('sep_conv_3x3', 2, 0), ('sep_conv_3x3', 2, 1), \
        ('skip_connect', 4, 3), ('sep_conv_5x5', 4, 1), ('dil_conv_3x3', 5, 0), \
        ('sep_conv_3x3', 5, 1)], normal_concat=range(2, 6), \
        reduce=[('avg_pool_3x3', 2, 1), ('skip_connect', 2, 0), ('skip_connect', 3, 2), \
        ('max_pool_3x3', 3, 1), ('sep_conv_5x5', 4, 3), ('max_pool_3x3', 4, 0), \
        ('dil_conv_3x3', 5, 1), ('dil_conv_3x3', 5, 4)], reduce_concat=range(2, 6))";
    let genotype: Genotype = text.parse().unwrap();
    let counts: Vec<usize> = genotype.normal.nodes.iter().map(Vec::len).collect();
    assert_eq!((&counts[..], &genotype.normal.concat[..]), (&[2, 0, 1, 2][..], &[2, 4, 5][..]));
    let printed = text.replace("FairDARTS_g = ", "").replace("('skip_connect', 4, 3), ", "");
    assert_eq!(genotype.to_triples().unwrap(), printed);
    assert_eq!(genotype.cell(CellKind::Reduction).nodes.len(), 4);
    assert_eq!(genotype.to_nested().unwrap().parse::<Genotype>().unwrap(), genotype);

    // The last node has no picks, and two operations have the same source.
    let last = "Genotype(normal=[('sep_conv_3x3', 2, 0), ('skip_connect', 2, 0)], \
        normal_concat=range(2, 6), reduce=[('sep_conv_3x3', 3, 1)], reduce_concat=range(2, 6))";
    let genotype: Genotype = last.parse().unwrap();
    assert_eq!(
        (genotype.normal.nodes.len(), &genotype.cell(CellKind::Reduction).concat[..]),
        (4, &[3][..])
    );
    assert_eq!(genotype.to_triples().unwrap(), last);
}

/// `SNAS_mild_edge_all` and `SNAS_aggressive`: `none` is no connection.
#[test]
fn every_edge_of_snas() {
    let normal = "[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('skip_connect', 0), \
        ('dil_conv_3x3', 1), ('none', 2), ('skip_connect', 0), ('skip_connect', 1), ('none', 3), \
        ('none', 2), ('skip_connect', 0), ('sep_conv_3x3', 1), ('none', 4), ('none', 3), ('none', 2)]";
    let aggressive = "[('sep_conv_5x5', 0), ('none', 1), ('sep_conv_5x5', 0), ('none', 1), \
        ('none', 1), ('none', 0), ('none', 1), ('none', 0)]";
    let text = format!(
        "Genotype(normal={normal}, normal_concat=range(2, 6), reduce={aggressive}, \
         reduce_concat=range(2, 6))"
    );
    let genotype: Genotype = text.parse().unwrap();
    let picks = |cell: &crate::CellGenotype| -> Vec<Vec<usize>> {
        cell.nodes.iter().map(|node| node.iter().map(|pick| pick.from).collect()).collect()
    };
    assert_eq!(picks(&genotype.normal), [[0, 1]; 4]);
    assert_eq!(picks(genotype.cell(CellKind::Reduction)), [vec![0], vec![0], vec![], vec![]]);
    assert_eq!(genotype.cell(CellKind::Reduction).concat, [2, 3]);
    let printed = genotype.to_every_edge().unwrap();
    assert!(printed.starts_with("Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "));
    assert_eq!(printed.matches("none").count(), 6 + 12);
    assert_eq!(printed.parse::<Genotype>().unwrap(), genotype);

    // All edges without `none`: fourteen picks are the picks of four nodes, not of seven.
    let all = normal.replace("none", "max_pool_3x3");
    let genotype: Genotype = flat(&all, "[2, 3, 4, 5]").parse().unwrap();
    let counts: Vec<usize> = genotype.normal.nodes.iter().map(Vec::len).collect();
    assert_eq!(counts, [2, 3, 4, 5]);
    // With other joined states, they are the picks of seven nodes.
    let genotype: Genotype = flat(&all, "range(2, 9)").parse().unwrap();
    assert_eq!(genotype.normal.nodes.len(), 7);
    assert!(genotype.to_flat().is_ok());
    let joined = Genotype {
        normal: crate::CellGenotype { concat: vec![2, 3, 4, 5], ..genotype.normal.clone() },
        ..genotype
    };
    let message = joined.to_flat().unwrap_err().to_string();
    assert!(message.contains("it reads like one pick for each edge of 4 nodes"), "{message}");
}

/// GDAS prints the strength of each pick, and two picks may have the same source.
#[test]
fn strengths_of_gdas() {
    let text = "{'normal': [(('sep_conv_3x3', 0, 0.1328), ('skip_connect', 0, np.float32(1.3e-01)))], \
        'normal_concat': [2], 'reduce': [(('sep_conv_3x3', 0, -0.5), ('skip_connect', 1, nan))], \
        'reduce_concat': [2]}";
    let genotype: Genotype = text.parse().unwrap();
    assert_eq!(
        genotype.to_string(),
        "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 0)], normal_concat=range(2, 3), \
         reduce=[('sep_conv_3x3', 0), ('skip_connect', 1)], reduce_concat=range(2, 3))"
    );
    assert_eq!(genotype.to_string().parse::<Genotype>().unwrap(), genotype);
}
