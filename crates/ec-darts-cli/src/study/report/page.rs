//! A report as one page without other files.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::blocks::{Block, Cell, Picture, Section, Table};
use super::pictures::Links;
use crate::report_html::{STYLE, html::details};

/// Styles that the pages about runs do not have.
const MORE: &str = "
.holds { color: var(--c2); font-weight: 600; } .does-not-hold { color: var(--c1); font-weight: 600; }
.untold { color: var(--faint); font-style: italic; } .figure { white-space: nowrap; }
.wide-figure { margin: 1rem 0; } .wide-figure .plot { max-width: 38rem; }
figcaption small { display: block; color: var(--faint); line-height: 1.4; }
td a + a { margin-left: .5rem; }
/* On a phone every row is a card: a figure of a table of many columns would have no room beside the others. */
@media (max-width: 40rem) {
  .cards thead { display: none; }
  .cards table, .cards tbody { display: block; font-size: .9rem; }
  .cards tr { display: block; padding: .6rem 0; }
  .cards tr + tr { border-top: 1px solid var(--rule); }
  .cards th, .cards td { display: flex; justify-content: space-between; gap: 1rem; padding: .1rem 0; border: 0 !important; }
  .cards td { text-align: right; }
  .cards td::before { content: attr(data-head); color: var(--faint); flex: none; max-width: 55%; text-align: left; }
}
";

pub fn page(title: &str, lead: &str, sections: &[Section], links: Links) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) ": EC-DARTS study" }
                style { (PreEscaped(STYLE)) (PreEscaped(MORE)) }
            }
            body {
                main {
                    header { p.kind { "EC-DARTS study" } h1 { (title) } p.lead { (lead) } }
                    @for section in sections {
                        section id=(section.id) {
                            h2 { (section.title) }
                            @for block in &section.blocks { (one_block(block, links)) }
                        }
                    }
                }
                footer { "Written by ec-darts " (ec_darts::VERSION) " (" (ec_darts::COMMIT) ")." }
            }
        }
    }
}

fn one_block(block: &Block, links: Links) -> Markup {
    match block {
        Block::Text(text) => html! { p { (text) } },
        Block::List(items) => html! { ul { @for item in items { li { (item) } } } },
        Block::Table(table) => one_table(table, links),
        Block::Folded(table) => details(table.name, one_table(table, links)),
        Block::Pictures(pictures) if pictures.iter().all(|picture| picture.is_wide) => {
            html! { @for picture in pictures { div.wide-figure { (figure(picture)) } } }
        }
        Block::Pictures(pictures) => {
            html! { div.figures { @for picture in pictures { (figure(picture)) } } }
        }
    }
}

fn figure(picture: &Picture) -> Markup {
    html! {
        figure {
            figcaption { strong { (picture.title) } small { (picture.caption) } }
            (picture.svg)
        }
    }
}

fn one_table(table: &Table, links: Links) -> Markup {
    html! {
        div.wide.cards {
            table {
                thead { tr { @for head in &table.head { th scope="col" { (head) } } } }
                tbody {
                    @for row in &table.rows {
                        tr {
                            @for (place, (head, cell)) in table.head.iter().zip(row).enumerate() {
                                @if place == 0 { th scope="row" { span { (shown(cell, links)) } } }
                                @else { td data-head=(head) { span { (shown(cell, links)) } } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn shown(cell: &Cell, links: Links) -> Markup {
    match cell {
        Cell::Untold(_) => html! { span.untold { (cell.shown()) } },
        Cell::Verdict(verdict) => {
            html! { span class=(verdict.name().replace(' ', "-")) { (verdict.name()) } }
        }
        Cell::Folders(all) => html! {
            @for (text, folder) in all {
                @let folder = folder.to_string_lossy();
                @match links.to(&folder) {
                    Some(link) => { a href=(link) title=(folder) { (text) } " " },
                    None => { span title=(folder) { (text) } " " },
                }
            }
        },
        Cell::Number { .. } | Cell::Drawn { .. } | Cell::Range { .. } => {
            html! { span.figure { (cell.shown()) } }
        }
        Cell::Text(text) => html! { (text) },
    }
}
