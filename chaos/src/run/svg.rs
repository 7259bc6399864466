//! As much of SVG as a timeline needs.

use std::fmt::Write;

pub struct Svg {
    width: f64,
    height: f64,
    body: String,
}

impl Svg {
    pub fn new(width: f64, height: f64) -> Self {
        Self { width, height, body: String::new() }
    }

    pub fn rect(&mut self, [x, y, width, height]: [f64; 4], style: &str, title: &str) {
        let title = escaped(title);
        self.put(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" {style}><title>{title}</title></rect>"#
        ));
    }

    pub fn line(&mut self, [x1, y1, x2, y2]: [f64; 4], style: &str) {
        self.put(format_args!(r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" {style}/>"#));
    }

    pub fn polyline(&mut self, points: &[(f64, f64)], style: &str) {
        let mut path = String::new();
        for (x, y) in points {
            // Writing into memory cannot fail.
            let _ = write!(path, "{x:.1},{y:.1} ");
        }
        self.put(format_args!(r#"<polyline points="{}" fill="none" {style}/>"#, path.trim_end()));
    }

    pub fn text(&mut self, x: f64, y: f64, style: &str, text: &str) {
        self.put(format_args!(r#"<text x="{x:.1}" y="{y:.1}" {style}>{}</text>"#, escaped(text)));
    }

    fn put(&mut self, element: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.body, "{element}");
    }

    pub fn finish(self) -> String {
        let Self { width, height, body } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"sans-serif\" \
             font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n"
        )
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_is_in_the_file_and_text_is_escaped() {
        let mut svg = Svg::new(100.0, 50.0);
        svg.rect([1.0, 2.0, 3.0, 4.0], "fill=\"red\"", "a<b");
        svg.line([0.0, 0.0, 1.0, 1.0], "");
        svg.polyline(&[(0.0, 1.0), (2.0, 3.25)], "stroke=\"blue\"");
        svg.text(5.0, 6.0, "", "x & y");
        let file = svg.finish();
        assert!(file.starts_with("<svg xmlns=") && file.trim_end().ends_with("</svg>"));
        assert!(file.contains("<title>a&lt;b</title>") && file.contains("x &amp; y"));
        assert!(file.contains(r#"points="0.0,1.0 2.0,3.2""#) || file.contains(r#"points="0.0,1.0 2.0,3.3""#), "{file}");
    }
}
