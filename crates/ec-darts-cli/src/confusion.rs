//! A confusion matrix as a table and as a picture.

use ec_darts::model::Evaluation;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::terminal::visible;

/// Space around the matrix, in pixels.
const MARGIN: i32 = 16;
/// The largest number of classes for which the picture has names and counts.
const NAMED: usize = 200;
const COUNTED: usize = 20;
/// The largest number of letters of a written name.
const LETTERS: usize = 30;
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const FRAME: RGBColor = RGBColor(0x88, 0x88, 0x88);

/// One row per true class, with the images of each predicted class.
pub fn csv(evaluation: &Evaluation) -> anyhow::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let names = evaluation.classes.iter().map(|class| class.name.as_str());
    writer.write_record(std::iter::once("true class").chain(names))?;
    for (class, row) in evaluation.classes.iter().zip(&evaluation.confusion) {
        let counts = row.iter().map(u64::to_string);
        writer.write_record(std::iter::once(class.name.clone()).chain(counts))?;
    }
    Ok(writer.into_inner()?)
}

/// A heat map: the darker a field, the larger its share of the images of its row's class.
pub fn svg(evaluation: &Evaluation) -> String {
    let mut text = String::new();
    let layout = MatrixSize::of(evaluation);
    {
        let area = SVGBackend::with_string(&mut text, layout.size()).into_drawing_area();
        layout.draw(&area, evaluation).expect("a string takes all that is drawn");
        area.present().expect("a string takes all that is drawn");
    }
    // XML cannot contain control characters, not even escaped.
    visible(&text).into_owned()
}

/// Where the matrix lies in the picture, in pixels.
struct MatrixSize {
    count: usize,
    /// Side of a field.
    field: i32,
    font: i32,
    left: i32,
    top: i32,
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

impl MatrixSize {
    fn of(evaluation: &Evaluation) -> Self {
        let count = evaluation.classes.len();
        let is_named = count <= NAMED;
        let whole = if is_named { 640 } else { 1400 };
        let field = (whole / count.max(1) as i32).clamp(if is_named { 9 } else { 1 }, 44);
        let font = (field - 1).clamp(1, 12);
        let longest =
            evaluation.classes.iter().map(|class| short(&class.name).chars().count()).max();
        let label = match is_named {
            true => (0.62 * f64::from(font) * longest.unwrap_or(0) as f64) as i32 + 8,
            false => 0,
        };
        Self { count, field, font, left: MARGIN + 20 + label, top: MARGIN + 44 + label }
    }

    fn side(&self) -> i32 {
        self.field * self.count as i32
    }

    fn size(&self) -> (u32, u32) {
        let (width, height) = (self.left + self.side() + MARGIN, self.top + self.side() + MARGIN);
        (width.max(340) as u32, height as u32)
    }

    fn draw<'a>(&self, area: &Area<'a>, evaluation: &Evaluation) -> Drawn<'a> {
        let &Self { field, left, top, .. } = self;
        area.fill(&WHITE)?;
        let title = format!(
            "Confusion matrix, {} images, top-1 {:.2} %",
            evaluation.num_images,
            100.0 * evaluation.top1
        );
        let at_left = Pos::new(HPos::Left, VPos::Bottom);
        let centred = Pos::new(HPos::Center, VPos::Bottom);
        text(area, &title, (MARGIN, MARGIN + 14), style(15, &INK, at_left))?;
        let middle = self.side() / 2;
        text(area, "predicted class", (left + middle, MARGIN + 38), style(13, &INK, centred))?;
        let turned = style(13, &INK, centred).transform(FontTransform::Rotate270);
        text(area, "true class", (MARGIN + 12, top + middle), turned)?;
        for (place, (class, row)) in
            evaluation.classes.iter().zip(&evaluation.confusion).enumerate()
        {
            let (along, below) = (left + place as i32 * field, top + place as i32 * field);
            if self.count <= NAMED {
                let at_right = style(self.font, &INK, Pos::new(HPos::Right, VPos::Center));
                text(area, &short(&class.name), (left - 6, below + field / 2), at_right)?;
                let upward = style(self.font, &INK, Pos::new(HPos::Left, VPos::Center));
                let upward = upward.transform(FontTransform::Rotate270);
                text(area, &short(&class.name), (along + field / 2, top - 6), upward)?;
            }
            for (column, &images) in row.iter().enumerate().filter(|(_, images)| **images > 0) {
                let share = images as f64 / class.num_images.max(1) as f64;
                self.draw_field(area, (left + column as i32 * field, below), images, share)?;
            }
        }
        let corners = [(left, top), (left + self.side(), top + self.side())];
        area.draw(&Rectangle::new(corners, FRAME))
    }

    fn draw_field<'a>(
        &self,
        area: &Area<'a>,
        (x, y): (i32, i32),
        images: u64,
        share: f64,
    ) -> Drawn<'a> {
        let corners = [(x, y), (x + self.field, y + self.field)];
        area.draw(&Rectangle::new(corners, shade(share).filled()))?;
        if self.count > COUNTED {
            return Ok(());
        }
        let ink = if share > 0.5 { WHITE } else { INK };
        let middle = (x + self.field / 2, y + self.field / 2);
        text(
            area,
            &images.to_string(),
            middle,
            style(11, &ink, Pos::new(HPos::Center, VPos::Center)),
        )
    }
}

fn style(size: i32, ink: &RGBColor, position: Pos) -> TextStyle<'static> {
    ("Helvetica, Arial, sans-serif", size).into_font().color(ink).pos(position)
}

fn text<'a>(area: &Area<'a>, text: &str, at: (i32, i32), style: TextStyle<'static>) -> Drawn<'a> {
    area.draw(&Text::new(text.to_string(), at, style))
}

fn short(name: &str) -> String {
    visible(name).chars().take(LETTERS).collect()
}

/// The colour of a share, from white to dark blue.
fn shade(share: f64) -> RGBColor {
    let between = |from: f64, to: f64| (from + (to - from) * share).round() as u8;
    RGBColor(between(240.0, 8.0), between(245.0, 48.0), between(252.0, 107.0))
}
